"""Seals: what was written here is known again, and nothing else is."""

from __future__ import annotations

import stat
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasvit_edge import seals

VALUES = st.dictionaries(st.text(max_size=5), st.none() | st.booleans() | st.text(max_size=9), max_size=4)


@pytest.fixture(autouse=True)
def key(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
    return seals.key_path()


@given(VALUES, VALUES)
def test_only_the_very_values_are_known_again(values, others):
    code = seals.seal(values)
    assert seals.is_own(values, code)
    assert seals.is_own(others, code) == (values == others)


@given(VALUES, st.none() | st.integers() | st.text() | st.lists(st.text()))
def test_nothing_else_is_a_seal(values, made_up):
    seals.seal(values)
    assert not seals.is_own(values, made_up)


def test_another_user_s_seal_is_none(key, tmp_path, monkeypatch):
    code = seals.seal({"a": "b"})
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert not seals.is_own({"a": "b"}, code)
    assert not seals.key_path().exists()  # looking makes no key
    seals.seal({})
    assert not seals.is_own({"a": "b"}, code)


def test_the_key_is_for_this_user_alone_and_stays(key):
    seals.seal({})
    before = key.read_bytes()
    seals.seal({"x": "y"})
    assert key.read_bytes() == before
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert [path.name for path in key.parent.iterdir()] == [key.name]


def test_settings_that_cannot_be_written_make_no_seal_and_no_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    assert seals.seal({"a": "b"}) == ""
    assert not seals.is_own({"a": "b"}, "")


def test_a_damaged_key_knows_nothing(key):
    code = seals.seal({"a": "b"})
    key.write_bytes(b"short")
    assert not seals.is_own({"a": "b"}, code)
    assert seals.seal({"a": "b"}) == ""


def test_processes_that_begin_together_have_one_key():
    code = "from nasvit_edge import seals; print(seals.seal({'a': 'b'}))"
    started = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    names = {process.communicate()[0].strip() for process in started}
    assert len(names) == 1
    assert seals.is_own({"a": "b"}, names.pop())
