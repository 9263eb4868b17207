"""Files that only grow: an addition is there whole or not at all."""

from __future__ import annotations

import os
import resource
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasvit_edge.appending import AppendLog


@given(parts=st.lists(st.binary(max_size=40)), keep=st.integers(0, 60))
def test_what_is_kept_comes_first_and_then_all_that_was_added(tmp_path_factory, parts, keep):
    path = tmp_path_factory.mktemp("log") / "log"
    path.write_bytes(b"x" * 60)
    with AppendLog(path, keep) as log:
        for part in parts:
            log.add(part, sync=True)
    assert path.read_bytes() == b"x" * keep + b"".join(parts)


def test_a_missing_file_is_made_and_one_that_is_there_goes_on(tmp_path):
    for part in (b"one\n", b"two\n"):
        with AppendLog(tmp_path / "log") as log:
            log.add(part)
    assert (tmp_path / "log").read_bytes() == b"one\ntwo\n"


def test_where_an_addition_does_not_fit_the_file_is_as_before(tmp_path):
    before, ignored = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with AppendLog(tmp_path / "log") as log:
        log.add(b"whole\n")
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
        try:
            with pytest.raises(OSError):
                log.add(b"y" * 200)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, ignored)
        assert (tmp_path / "log").read_bytes() == b"whole\n"
        log.add(b"more\n")
    assert (tmp_path / "log").read_bytes() == b"whole\nmore\n"


def test_only_regular_files_grow(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(OSError):
            AppendLog(path)
