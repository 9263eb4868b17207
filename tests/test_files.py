"""Files are written whole or not at all, and read without a traceback."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from conftest import one_line, only_user_errors, require_tool
from hypothesis import given
from hypothesis import strategies as st

from nasvit_edge import files
from nasvit_edge.errors import NasvitEdgeError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


def test_a_file_is_written_with_its_folders_and_ordinary_permissions(tmp_path):
    path = tmp_path / "a" / "b" / "c.json"
    files.write_json(path, {"b": 1, "a": 2})
    assert json.loads(path.read_text()) == {"a": 2, "b": 1}
    assert path.read_text().index('"a"') < path.read_text().index('"b"')
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("read", [files.read_json, files.read_toml])
@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ("{}".encode("utf-16"), "UTF-16"),
        (b"\xfe\xff\x00{", "UTF-16"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "Git LFS pointer"),
        (b"\xef\xbb\xbf<!doctype html>", "web page"),
        (b"\xff\x00", "no text in UTF-8"),
    ],
)
def test_what_is_no_text_of_ours_is_named(tmp_path, read, content, kind):
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(NasvitEdgeError, match=kind) as caught:
        read(tmp_path / "f", "file")
    one_line(caught)


def test_a_byte_order_mark_is_no_harm(tmp_path):
    (tmp_path / "f").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert files.read_json(tmp_path / "f", "file") == {"a": 1}
    (tmp_path / "f").write_bytes(b"\xef\xbb\xbfa = 1")
    assert files.read_toml(tmp_path / "f", "file") == {"a": 1}


@given(st.text(max_size=20))
def test_any_text_is_a_file_and_perhaps_a_key(text):
    file, key = files.file_and_key(text)
    assert text == (file if key is None else f"{file}::{key}")


def test_a_file_and_its_key_come_apart_at_the_last_colons(tmp_path):
    assert files.file_and_key("a.pth::b.c") == ("a.pth", "b.c")
    assert files.file_and_key("a.pth::") == ("a.pth", "")
    assert files.file_and_key("::b") == ("::b", None)
    assert files.file_and_key(f"{'x' * 5000}::b") == ("x" * 5000, "b")
    (tmp_path / "a::b").touch()
    assert files.file_and_key(tmp_path / "a::b") == (f"{tmp_path}/a::b", None)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_json_does_not_have_are_not_written(tmp_path, value):
    path = tmp_path / "old.json"
    path.write_text("old")
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(path, {"a": value})
    assert path.read_text() == "old"


@pytest.mark.parametrize("bad", ["", "zero\0byte", "x" * 300, "old.txt/below"])
def test_an_impossible_path_is_one_line(tmp_path, bad):
    (tmp_path / "old.txt").write_text("old")
    for call in (lambda p: files.write_bytes(p, b"new"), files.writable_folder):
        if bad == "" and call is files.writable_folder:
            continue
        with pytest.raises(NasvitEdgeError) as caught:
            call(Path(f"{tmp_path}/{bad}"))
        one_line(caught)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["old.txt"]


def test_what_is_no_regular_file_is_not_replaced(tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("folder", "pipe"):
        with pytest.raises(NasvitEdgeError, match="regular file"):
            files.write_bytes(tmp_path / name, b"new")
    assert (tmp_path / "folder").is_dir()
    assert (tmp_path / "pipe").is_fifo()


def _limited(path: Path, bytes_allowed: int) -> str:
    """Write a megabyte over `path` in a process that may not write files that long."""
    code = (
        "import resource, signal, sys; from pathlib import Path; from nasvit_edge import files\n"
        f"signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, ({bytes_allowed},) * 2)\n"
        "try: files.write_bytes(Path(sys.argv[1]), bytes(1 << 20))\n"
        "except files.NasvitEdgeError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    return done.stdout


def test_the_old_file_survives_a_write_that_stops_half_way(tmp_path):
    path = tmp_path / "old.bin"
    path.write_bytes(b"old")
    assert "cannot write" in _limited(path, 4096)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["old.bin"]


def _mounted(tmp_path: Path, options: str) -> Path:
    """A tiny file system of its own, where this process may mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    done = None
    if os.geteuid() == 0:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, check=False)
    require_tool("mounting a tmpfs (as root)", done is not None and done.returncode == 0)
    return folder


def test_the_old_file_survives_a_full_disk(tmp_path):
    folder = _mounted(tmp_path, "size=64k")
    try:
        path = folder / "old.bin"
        path.write_bytes(b"old")
        with pytest.raises(NasvitEdgeError) as caught:
            files.write_bytes(path, bytes(1 << 20))
        assert "No space left" in one_line(caught)
        assert path.read_bytes() == b"old"
        assert [p.name for p in folder.iterdir()] == ["old.bin"]
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_the_old_file_survives_a_read_only_folder(tmp_path):
    if os.geteuid() == 0:  # permissions do not bind root; a read-only file system does
        folder = _mounted(tmp_path, "size=64k")
        lock, unlock = ["mount", "-o", "remount,ro", str(folder)], ["umount", str(folder)]
    else:
        folder = tmp_path / "small"
        folder.mkdir()
        lock, unlock = ["chmod", "a-w", str(folder)], ["chmod", "u+w", str(folder)]
    (folder / "old.bin").write_bytes(b"old")
    subprocess.run(lock, check=True)
    try:
        for call in (lambda p: files.write_bytes(p / "old.bin", b"new"), files.writable_folder):
            with pytest.raises(NasvitEdgeError) as caught:
                call(folder)
            assert str(folder) in one_line(caught)
        assert (folder / "old.bin").read_bytes() == b"old"
    finally:
        subprocess.run(unlock, check=True)


def test_a_missing_file_is_named(tmp_path):
    for read in (files.read_bytes, files.read_json, files.read_toml):
        with pytest.raises(NasvitEdgeError) as caught:
            read(tmp_path / "absent.file", "table")
        assert "absent.file" in one_line(caught)


@given(st.dictionaries(st.text(), JSON))
def test_json_round_trips(tmp_path_factory, value):
    path = tmp_path_factory.getbasetemp() / "round.json"
    files.write_json(path, value)
    assert files.read_json(path, "file") == value


@given(st.binary() | st.text().map(str.encode) | JSON.map(lambda v: json.dumps(v).encode()[:-1]))
def test_any_bytes_read_as_json_or_toml_or_one_line(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "fuzz.file"
    path.write_bytes(content)
    for read in (files.read_json, files.read_toml):
        assert isinstance(only_user_errors(read, path, "file"), dict | str)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a": NaN}',
        '{"a": 1e999}',
        '{"a": -Infinity}',
        '{"a": ' + "9" * 5000 + "}",
        "[1]",
        "3",
        "",
    ],
)
def test_json_that_is_no_plain_object_is_refused_by_name(tmp_path, text):
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(NasvitEdgeError) as caught:
        files.read_json(path, "result")
    assert "result" in one_line(caught)
    assert "bad.json" in one_line(caught)


@pytest.mark.parametrize(
    "text", ["a = [" + "[" * 100_000, "a =", "a = 1\na = 2", "[t]\n[t]", "a = 2026-13-45"]
)
def test_bad_toml_is_refused_by_name(tmp_path, text):
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(NasvitEdgeError) as caught:
        files.read_toml(path, "space")
    assert "bad.toml" in one_line(caught)


def test_another_schema_is_named(tmp_path):
    path = tmp_path / "new.json"
    path.write_text('{"schema": 99}')
    with pytest.raises(NasvitEdgeError, match="99"):
        files.read_json(path, "table", schema=1)


def test_the_sum_of_a_file_is_its_sha256(tmp_path):
    (tmp_path / "empty").touch()
    assert files.sha256(tmp_path / "empty").startswith("e3b0c44298fc1c14")


@given(
    st.dictionaries(
        st.from_regex(r"[a-z]{1,3}(/x[a-z]{1,3})?", fullmatch=True), st.binary(max_size=20), min_size=1
    )
)
def test_a_folder_is_read_back_as_it_was_written(tmp_path_factory, tree):
    whole = {name: data for name, data in tree.items() if not any(o.startswith(f"{name}/") for o in tree)}
    path = tmp_path_factory.mktemp("tree") / "folder"
    for _ in range(2):  # also over what is there
        files.write_tree(path, whole)
        assert files.read_tree(path, "folder") == whole
    assert [p.name for p in path.parent.iterdir()] == ["folder"]


def test_the_old_folder_survives_a_full_disk(tmp_path):
    folder = _mounted(tmp_path, "size=64k")
    try:
        path = folder / "model"
        files.write_tree(path, {"a": b"old"})
        with pytest.raises(NasvitEdgeError) as caught:
            files.write_tree(path, {"a": b"new", "b": bytes(1 << 20)})
        assert "No space left" in one_line(caught)
        assert files.read_tree(path, "folder") == {"a": b"old"}
        assert [p.name for p in folder.iterdir()] == ["model"]
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_file_is_not_replaced_by_a_folder(tmp_path):
    path = tmp_path / "plain"
    path.write_text("old")
    with pytest.raises(NasvitEdgeError, match="not a folder"):
        files.write_tree(path, {"a": b"new"})
    assert path.read_text() == "old"


def test_an_empty_or_missing_folder_is_named(tmp_path):
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(NasvitEdgeError, match="no such folder, or it is empty"):
            files.read_tree(path, "artifact")


def test_a_lock_is_held_by_one_and_free_afterwards(tmp_path):
    path = tmp_path / "run.lock"
    for _ in range(2):
        with files.locked(path, NasvitEdgeError("busy")):
            with pytest.raises(NasvitEdgeError, match="busy"), files.locked(path, NasvitEdgeError("busy")):
                raise AssertionError("held twice")
            assert path.exists()  # the loser leaves it to its owner


def test_whoever_opened_a_lock_before_it_was_released_and_whoever_comes_then_never_hold_it_both(
    tmp_path, monkeypatch
):
    """Between opening the file and locking it, somebody else may hold and release the lock."""
    path, real, opened, go = tmp_path / "run.lock", fcntl.flock, threading.Event(), threading.Event()

    def slow(stream, how):
        if threading.current_thread().name == "slow":
            opened.set()
            go.wait(10)
        return real(stream, how)

    inside, left = threading.Event(), threading.Event()

    def second():
        with files.locked(path, NasvitEdgeError("busy")):
            inside.set()
            left.wait(10)

    monkeypatch.setattr(fcntl, "flock", slow)
    thread = threading.Thread(target=second, name="slow")
    with files.locked(path, NasvitEdgeError("busy")):
        thread.start()
        assert opened.wait(10)
    go.set()
    assert inside.wait(10)
    with pytest.raises(NasvitEdgeError, match="busy"), files.locked(path, NasvitEdgeError("busy")):
        raise AssertionError("held twice")
    left.set()
    thread.join(10)


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP])
@pytest.mark.filterwarnings("ignore:flock not supported")
def test_where_the_file_system_has_no_locks_nothing_is_refused(tmp_path, monkeypatch, code):
    def unsupported(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with files.locked(tmp_path / "run.lock", NasvitEdgeError("busy")):
        pass


def test_a_lock_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "a").write_text("")
    with (
        pytest.raises(NasvitEdgeError, match="cannot write"),
        files.locked(tmp_path / "a" / "x", NasvitEdgeError("busy")),
    ):
        pass


def test_text_with_a_name_that_is_none_is_written(tmp_path):
    files.write_text(tmp_path / "page.html", "wrote caf\udce9")
    assert (tmp_path / "page.html").read_text() == "wrote caf\\udce9"


def test_a_folder_whose_links_lead_out_of_it_is_refused(tmp_path):
    (tmp_path / "private").write_text("secret")
    folder = tmp_path / "model"
    (folder / "inner").mkdir(parents=True)
    (folder / "own").write_text("own")
    (folder / "inner" / "link").symlink_to("../own")
    assert set(files.read_tree(folder, "model")) == {"own", "inner/link"}
    (folder / "out").symlink_to("../private")
    with pytest.raises(NasvitEdgeError, match="'out' is a link out of the folder") as error:
        files.read_tree(folder, "model")
    one_line(error)


@given(st.text() | st.integers() | st.none() | st.lists(st.text()))
def test_a_name_is_no_path_option_or_command(text):
    if files.is_name(text):
        assert not set(text) & set("/\\:;|&$`'\"<> \n\t\0*?~")
        assert text[0] not in "-."
        assert Path(text).name == text


@pytest.mark.parametrize("text", ["host", "my-board.2", "litert-gpu", "a" * 64])
def test_plain_words_are_names(text):
    assert files.is_name(text)


@pytest.mark.parametrize(
    "text", ["", "..", "a/b", "/a", "-a", "a b", "a\n", "é", "a" * 65, "http://a", 3, None]
)
def test_what_could_be_something_else_is_no_name(text):
    assert not files.is_name(text)


class Held:
    """A file that somebody has open for a while: Windows refuses to rename over it."""

    def __init__(self, monkeypatch, times):
        self.left, self.replace = times, Path.replace
        monkeypatch.setattr(sys, "platform", "win32")
        monkeypatch.setattr(files, "_OPEN_S", 0.1)
        monkeypatch.setattr(Path, "replace", lambda *names: self.refuse(*names))

    def refuse(self, partial, path):
        self.left -= 1
        if self.left >= 0:
            raise PermissionError(errno.EACCES, "Access is denied")
        return self.replace(partial, path)


def test_a_file_that_is_open_for_a_moment_is_replaced_after_it(tmp_path, monkeypatch):
    (tmp_path / "a.bin").write_bytes(b"old")
    Held(monkeypatch, 3)
    files.write_bytes(tmp_path / "a.bin", b"new")
    assert (tmp_path / "a.bin").read_bytes() == b"new"


def test_a_file_that_stays_open_is_told_and_stays(tmp_path, monkeypatch):
    (tmp_path / "a.bin").write_bytes(b"old")
    Held(monkeypatch, 10_000)
    with pytest.raises(NasvitEdgeError, match="Access is denied"):
        files.write_bytes(tmp_path / "a.bin", b"new")
    assert (tmp_path / "a.bin").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]
