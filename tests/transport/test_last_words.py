"""How a process ended, from its exit code and what it printed."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasvit_edge.transport.answers import Broken
from nasvit_edge.transport.last_words import crash, last_words, signal_name, with_last_words

DIES = "import faulthandler, os, sys; faulthandler.enable(); print('loading', file=sys.stderr, flush=True); os.kill(os.getpid(), {})"


@pytest.mark.parametrize("name", ["SIGILL", "SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE"])
def test_each_signal_that_python_reports_is_read_from_its_report(name):
    command = [sys.executable, "-c", DIES.format(int(signal.Signals[name]))]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == -signal.Signals[name]
    lines = done.stderr.splitlines()
    assert crash(lines) == crash(lines, done.returncode) == f"{name}; it said last: 'loading'"


def test_where_it_said_nothing_the_place_is_told():
    done = subprocess.run(
        [sys.executable, "-c", "import faulthandler; faulthandler.enable(); faulthandler._sigabrt()"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert "line 1 in <module>" in last_words(done.stderr.splitlines())


def test_a_kill_is_told_with_its_usual_reason():
    assert "memory had run out" in crash([], -signal.SIGKILL)
    assert "memory had run out" in crash(["busy"], 137)
    assert "memory" not in crash([], -signal.SIGILL)


@pytest.mark.parametrize(
    ("code", "name"),
    [(None, ""), (0, ""), (1, ""), (255, ""), (-11, "SIGSEGV"), (139, "SIGSEGV"), (132, "SIGILL")],
)
def test_exit_codes_of_programs_and_of_shells_name_the_signal(code, name):
    assert signal_name(code) == name


@given(st.lists(st.text(max_size=300)), st.none() | st.integers(-300, 300))
def test_whatever_it_printed_is_one_short_line(lines, code):
    text = crash(lines, code)
    assert text.strip()
    assert len(text.splitlines()) == 1
    assert len(text) < 2000


def test_an_answer_without_last_words_stays_as_it_is():
    answer = Broken(id="m", error="the runtime crashed (SIGILL)")
    assert with_last_words(answer, []) == answer
    assert with_last_words(answer, ["one", "two", "three"]).error.endswith("it said last: 'two / three'")
