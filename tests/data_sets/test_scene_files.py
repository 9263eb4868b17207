"""Folders of scenes as people have them: leftovers, links that lead around, names in any spelling or bytes."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
from conftest import one_line, only_user_errors
from hypothesis import given, settings
from hypothesis import strategies as st

from nasvit_edge.data_sets import scene_files
from nasvit_edge.data_sets.names import SPLITS
from nasvit_edge.data_sets.scene_files import child, holds, walk
from nasvit_edge.data_sets.walking import told
from nasvit_edge.errors import DataError


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return path


def walked(folder: Path) -> tuple[list[str], Counter[str]]:
    left_out = Counter[str]()
    return sorted(os.path.relpath(path, folder) for path in walk(folder, left_out)), left_out


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (".DS_Store", ".*"),
        ("._001.png", "._*"),
        (".thumbnails/001.png", ".*"),
        ("@eaDir/001.png/SYNOPHOTO_THUMB_M.jpg", "@eaDir"),
        ("__MACOSX/._001.png", "__MACOSX"),
        ("deep/@EADIR/001.png", "@EADIR"),
        ("Thumbs.db", "Thumbs.db"),
        ("thumbnails/001.png", "thumbnails"),
    ],
)
def test_leftovers_of_systems_are_no_data_and_counted(tmp_path, name, kind):
    touch(tmp_path / "001.png")
    touch(tmp_path / name)
    assert walked(tmp_path) == (["001.png"], Counter({kind: 1}))


def test_what_was_left_out_is_told_most_first():
    assert told(Counter({".txt": 1, "._*": 12})) == "._* 12, .txt 1"
    assert told(Counter()) == ""
    assert told(Counter({f".{i}": 20 - i for i in range(9)})).endswith(".6 14, 2 other kinds")


@pytest.mark.parametrize("target", [".", "..", "../..", "a", "a/b"])
def test_a_link_to_a_folder_around_it_is_not_entered_again(tmp_path, target):
    root = tmp_path / "images"
    touch(root / "a" / "b" / "001.png")
    (root / "a" / "b" / "again").symlink_to(root / target)
    by_class, left_out = walked(root)
    assert by_class == ["a/b/001.png"]
    assert left_out == Counter({"links to a folder around them": 1})


def test_other_links_are_followed_also_twice_to_one_folder(tmp_path):
    touch(tmp_path / "elsewhere" / "001.png")
    (tmp_path / "images").mkdir()
    for name in ("left", "right"):
        (tmp_path / "images" / name).symlink_to(tmp_path / "elsewhere")
    assert walked(tmp_path / "images")[0] == ["left/001.png", "right/001.png"]


def test_links_that_lead_nowhere_are_left_to_who_opens_them_and_pipes_are_left_out(tmp_path):
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "itself.png").symlink_to(tmp_path / "itself.png")
    os.mkfifo(tmp_path / "pipe.png")
    assert walked(tmp_path) == (["gone.png", "itself.png"], Counter({"pipes and the like": 1}))


def test_folders_that_link_to_each_other_end(tmp_path, monkeypatch):
    names = "abcdefgh"
    for name in names:
        touch(tmp_path / name / "001.png")
    for name in names:
        for other in names:
            (tmp_path / name / other).symlink_to(tmp_path / other)
    monkeypatch.setattr(scene_files, "_MOST_FOLDERS", 1000)
    with pytest.raises(DataError, match="has more than 1000 folders in it") as caught:
        walked(tmp_path)
    one_line(caught)


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=6),
    st.sets(st.integers(0, 5), min_size=1),
)
def test_whatever_links_to_what_every_file_is_found_and_the_walk_ends(tmp_path_factory, links, holding):
    root = tmp_path_factory.mktemp("links")
    folders = [root.joinpath(*"abcdef"[: i + 1]) for i in range(6)]
    for i in holding:
        touch(folders[i] / "x.png")
    folders[5].mkdir(parents=True, exist_ok=True)
    for number, (where, to) in enumerate(links):
        (folders[where] / f"link{number}").symlink_to(folders[to])
    paths = walked(root)[0]
    assert {os.path.relpath(folders[i] / "x.png", root) for i in holding} <= set(paths)
    assert len(paths) == len(set(paths))


def test_a_missing_folder_is_one_line(tmp_path):
    with pytest.raises(DataError, match=r"absent.*No such file") as caught:
        walked(tmp_path / "absent")
    one_line(caught)


@pytest.mark.parametrize("name", ["val", "Val", "VALID", "validation", "Dev"])
def test_a_folder_is_found_by_any_of_its_names_in_any_case(tmp_path, name):
    (tmp_path / name).mkdir()
    assert child(tmp_path, SPLITS["validation"]) == tmp_path / name
    assert child(tmp_path, SPLITS["train"]) is None
    assert child(tmp_path / "absent", ("x",)) is None


def test_of_two_folders_that_mean_the_same_the_one_that_holds_data_is_taken_or_both_are_named(tmp_path):
    (tmp_path / "val").mkdir()
    (tmp_path / "Valid" / "Images").mkdir(parents=True)
    names = SPLITS["validation"]
    assert child(tmp_path, names, "images") == tmp_path / "Valid"
    (tmp_path / "val" / "images").mkdir()
    with pytest.raises(DataError, match="holds 'Valid' and 'val', which mean the same") as caught:
        child(tmp_path, names, "images")
    one_line(caught)


def test_what_a_folder_holds_is_told_briefly(tmp_path):
    assert holds(tmp_path) == "it is empty"
    for i in range(7):
        (tmp_path / str(i)).mkdir()
    assert holds(tmp_path) == "it holds '0', '1', '2', '3', '4' and 2 more"


@settings(max_examples=50)
@given(st.binary(min_size=1, max_size=12).filter(lambda name: b"/" not in name and b"\0" not in name))
def test_a_file_of_any_name_is_walked_to_or_told(tmp_path_factory, name):
    root = tmp_path_factory.mktemp("bytes")
    path = os.fsencode(root) + b"/" + name
    if name in (b".", b".."):
        return
    Path(os.fsdecode(path)).write_bytes(b"x")
    left_out = Counter[str]()
    results = [os.fsencode(each) for each in walk(root, left_out)]
    assert results == [path] or told(left_out).encode()


@given(st.text(max_size=20))
def test_any_text_as_a_folder_is_one_line(text):
    only_user_errors(walked, Path("absent") / text)
