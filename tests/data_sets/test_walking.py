# ruff: noqa: PTH102, PTH103, PTH113, PTH118, PTH119, PTH120, PTH123, PTH211
"""Walking through folders: every image once, never what is no data, whatever lies there and whatever it is called."""

from __future__ import annotations

import os
import socket
import unicodedata
from pathlib import Path

import pytest
from conftest import one_line, only_user_errors, require_module
from hypothesis import given, settings
from hypothesis import strategies as st

from nasvit_edge.data_sets import folders, layouts, unlabelled
from nasvit_edge.data_sets.names import normal, ordered, shown
from nasvit_edge.data_sets.walking import Walk, endings, told
from nasvit_edge.errors import DataError

require_module("PIL.Image")
CAFE = unicodedata.normalize("NFC", "café"), unicodedata.normalize("NFD", "café")


def tree(root, *files: str | bytes):
    """Empty files, with the folders that they are in."""
    for name in files:
        path = os.path.join(os.fsencode(root), os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb"):
            pass
    return root


def walked(root) -> tuple[dict[str, list[str]], Walk]:
    """Class -> its images, relative to `root`; and the walk."""
    walk = Walk(os.fsencode(root))
    prepared = walk.images(walk.classes())
    return {
        name: [os.path.relpath(os.fsdecode(p), root) for p in paths] for name, paths in prepared.items()
    }, walk


def test_what_begins_with_a_dot_and_what_servers_and_viewers_leave_is_no_data(tmp_path):
    junk = ["._1.jpg", ".hidden/1.jpg", "@eaDir/1.jpg/SYNOPHOTO_THUMB_M.jpg", "__MACOSX/1.jpg", "Thumbs.db"]
    junk += [".thumbnails/1.jpg", "thumbs/1.jpg", "Thumbnails/1.jpg", "#recycle/1.jpg", "notes.txt"]
    tree(tmp_path, "cat/1.jpg", "cat/more/2.jpg", *(f"cat/{name}" for name in junk))
    tree(tmp_path, ".git/1.jpg", "@eaDir/1.jpg", "__MACOSX/cat/._1.jpg", "thumbs/up.jpg", "read.me", "0.png")
    by_class, walk = walked(tmp_path)
    assert by_class == {"cat": ["cat/1.jpg", "cat/more/2.jpg"], "thumbs": ["thumbs/up.jpg"]}
    assert walk.left_out == {
        "._*": 1,
        ".*": 3,
        "@eaDir": 2,
        "__MACOSX": 2,
        "thumbs": 1,
        "Thumbnails": 1,
        "#recycle": 1,
        "Thumbs.db": 1,
        ".txt": 1,
        ".me": 1,
        "images beside the class folders": 1,
    }


def test_whatever_pillow_decodes_is_read_in_any_case(tmp_path):
    read = [".jpg", ".JPEG", ".jfif", ".png", ".webp", ".GIF", ".bmp", ".tif", ".tga", ".jp2", ".ppm"]
    tree(tmp_path, *(f"a/{place}{ending}" for place, ending in enumerate(read)))
    assert len(walked(tmp_path)[0]["a"]) == len(read)


def test_kinds_that_take_another_program_or_hold_no_image_are_not_read():
    assert not endings() & {".eps", ".ps", ".pdf", ".mpg", ".h5", ".hdf", ".wmf", ".grib", ".db", ".txt", ""}


def test_what_was_left_out_is_told_by_kind_the_most_frequent_first(tmp_path):
    tree(tmp_path, *(f"a/{i}.txt" for i in range(3)), "a/1.HEIC", "a/2.heic", "a/no_ending", "a/.x")
    _, walk = walked(tmp_path)
    text = told(walk.left_out)
    assert text.startswith(".txt 3")
    assert "files without an ending 1" in text
    if ".heic" not in endings():
        assert ".heic 2" in text
        assert "pip install 'nasvit-edge[heif]'" in text


def test_of_many_kinds_the_rest_is_a_number(tmp_path):
    tree(tmp_path, *(f"a/1.{i:03}" for i in range(50)))
    assert told(walked(tmp_path)[1].left_out).count(",") == 7
    assert "43 other kinds" in told(walked(tmp_path)[1].left_out)
    assert told(Walk(os.fsencode(tmp_path)).left_out) == ""


# -- links ----------------------------------------------------------------------------------------------


def test_a_loop_of_links_is_followed_once(tmp_path):
    tree(tmp_path, "x/a/1.png", "x/b/2.png", "x/b/deep/3.png")
    for place, target in (
        ("x/a/up", ".."),
        ("x/a/self", "."),
        ("x/b/deep/a", "../../a"),
        ("x/a/top", "../.."),
    ):
        (tmp_path / place).symlink_to(target)
    by_class, walk = walked(tmp_path / "x")
    assert by_class == {"a": ["a/1.png"], "b": ["b/2.png", "b/deep/3.png"]}
    assert walk.left_out == {"links to folders seen before": 4}


def test_linked_folders_and_files_outside_are_data(tmp_path):
    tree(tmp_path, "store/1.png", "store/sub/2.png", "blob.png", "x/b/0.png")
    (tmp_path / "x/a").symlink_to(tmp_path / "store")
    (tmp_path / "x/b/blob.png").symlink_to(tmp_path / "blob.png")
    (tmp_path / "x/b/store").symlink_to("a/../../a")  # nowhere
    assert walked(tmp_path / "x")[0] == {"a": ["a/1.png", "a/sub/2.png"], "b": ["b/0.png", "b/blob.png"]}


def test_a_link_among_the_classes_that_leads_back_is_no_class(tmp_path):
    tree(tmp_path, "a/1.png")
    (tmp_path / "loop").symlink_to(".")
    (tmp_path / "itself").symlink_to("itself")
    by_class, walk = walked(tmp_path)
    assert by_class == {"a": ["a/1.png"]}
    assert walk.left_out == {"links to folders seen before": 1, "broken links": 1}


def test_two_classes_that_are_one_folder_are_named(tmp_path):
    tree(tmp_path, "cat/1.png", "dog/2.png")
    (tmp_path / "lynx").symlink_to("cat")
    with pytest.raises(DataError, match=r"'cat' and 'lynx' are the same folder") as caught:
        folders.listing(tmp_path)
    one_line(caught)


def test_pipes_sockets_and_broken_links_are_never_opened(tmp_path):
    tree(tmp_path, "a/1.png")
    os.mkfifo(tmp_path / "a/2.png")  # opening it would wait for ever
    (tmp_path / "a/3.png").symlink_to("gone")
    (tmp_path / "a/5.png").symlink_to("5.png")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(tmp_path / "a/4.png"))
        by_class, walk = walked(tmp_path)
    assert by_class == {"a": ["a/1.png"]}
    assert walk.left_out == {"pipes and the like": 2, "broken links": 2}


# -- names ----------------------------------------------------------------------------------------------


def test_a_name_composed_or_not_is_one_class(tmp_path):
    tree(tmp_path, f"{CAFE[0]}/1.png", f"{CAFE[1]}/2.png", "tea/3.png")
    by_class, _ = walked(tmp_path)
    assert list(by_class) == [CAFE[0], "tea"]
    assert len(by_class[CAFE[0]]) == 2


def test_numbers_are_in_the_order_of_their_values():
    assert ordered(["10", "2", "1"]) == ("1", "2", "10")
    assert ordered(["10", "2", "b"]) == ("10", "2", "b")


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    tree(tmp_path, "a/1.png", "a/closed/2.png")

    real = os.scandir

    def scandir(path):
        if path.endswith(b"closed"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DataError, match=r"closed.*Permission denied") as caught:
        folders.listing(tmp_path)
    one_line(caught)


@given(st.binary(min_size=1, max_size=20))
def test_any_name_is_shown_in_one_printable_line(name):
    text = shown(normal(name))
    assert text.isprintable()
    text.encode()


NAMES = [
    b"a",
    b"b",
    b"1",
    b"10",
    b"\xff\xfe",
    *(os.fsencode(name) for name in CAFE),
    b".x",
    b"@eaDir",
    b"thumbs",
]
NAMES += [b"train", b"Val", b"TEST", b"new\nline", b"__MACOSX", b"z" * 200]
KINDS = ["folder", "1.png", "2.JFIF", "._3.png", "4.txt", "5", "\udcff.png", "pipe.png", "link", "link"]
NODES = st.lists(
    st.tuples(st.integers(0, 99), st.sampled_from(NAMES), st.sampled_from(KINDS), st.integers(0, 99)),
    max_size=25,
)
JUNK = (b"@eaDir", b"__MACOSX")


def grown(root: bytes, nodes) -> None:
    """A tree of folders, files and links into it."""
    places = [root]
    for parent, name, kind, target in nodes:
        folder = places[parent % len(places)]
        path = os.path.join(folder, name if kind in ("folder", "link") else os.fsencode(kind))
        if os.path.lexists(path):
            continue
        if kind == "folder":
            os.mkdir(path)
            places.append(path)
        elif kind == "link":
            os.symlink(places[target % len(places)], path)
        elif kind == "pipe.png":
            os.mkfifo(path)
        else:
            with open(path, "wb"):
                pass


def expected(root: bytes) -> set[bytes]:
    """The images that are reached without links."""
    paths = set()
    for folder, inside, names in os.walk(root):
        inside[:] = [n for n in inside if not n.startswith(b".") and n not in (*JUNK, b"thumbs")]
        kept = (n for n in names if n.lower().endswith((b".png", b".jfif")) and not n.startswith(b"."))
        paths |= {os.path.realpath(p) for n in kept if os.path.isfile(p := os.path.join(folder, n))}
    return paths


@settings(max_examples=200)
@given(NODES)
def test_in_any_tree_every_image_is_found_once_and_nothing_else(tmp_path_factory, nodes):
    root = os.fsencode(tmp_path_factory.mktemp("tree"))
    grown(root, nodes)
    text = os.fsdecode(root)
    whole = only_user_errors(unlabelled, text)
    by_class = only_user_errors(folders.listing, Path(text))
    for split in ("train", "validation", "test"):
        only_user_errors(layouts.split_folder, text, split)
    for listing in (whole, by_class):
        if isinstance(listing, str):
            continue
        paths = listing.paths.tolist()
        real = [os.path.join(os.path.realpath(os.path.dirname(p)), os.path.basename(p)) for p in paths]
        assert len(set(real)) == len(real)
        assert all(os.path.isfile(p) for p in paths)
        for path in paths:
            parts = os.path.relpath(path, root).split(b"/")
            assert not any(part.startswith(b".") or part in JUNK for part in parts)
        assert listing.told().isprintable()
    if not isinstance(whole, str) and os.fsencode(layouts.unlabelled_folder(text)) == root:
        assert expected(root) <= set(map(os.path.realpath, whole.paths.tolist()))
