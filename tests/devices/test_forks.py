"""Processes that take turns: one runs at a time, and what happens to one does not happen to the others."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_coreml import DEVICES, host

host()  # puts the folder on the path
forks = pytest.importorskip("forks")


def say(pipe, text):
    os.write(pipe, (text + "\n").encode())


def turns_of(pipe, name, states):
    """Work that says when it runs, and after each turn what comes next in `states`."""

    def work(turn):
        left = list(states)
        taken = 0
        say(pipe, f"{name} loads")
        turn.give(left.pop(0))
        while turn.take():
            say(pipe, f"{name} runs")
            taken += 1
            turn.give(left.pop(0) if left else forks.ENOUGH)
        say(pipe, f"{name} ends")
        return {"name": name, "taken": taken}

    return work


@contextlib.contextmanager
def told():
    """A pipe for what forks say, and what they said so far, line by line."""
    read, write = os.pipe()
    os.set_blocking(read, False)

    def said():
        with contextlib.suppress(BlockingIOError):
            return os.read(read, 1 << 16).decode().split("\n")[:-1]
        return []

    yield write, said
    os.close(read)
    os.close(write)


def answers(*works, wait=lambda pipe: None):
    return forks.answers(list(works), wait)


def test_turns_go_forwards_and_backwards():
    with told() as (pipe, said):
        actual = answers(
            turns_of(pipe, "A", [forks.MORE] * 4),
            turns_of(pipe, "B", [forks.MORE, forks.ENOUGH, forks.ENOUGH]),
        )
        lines = said()
    assert actual == [{"name": "A", "taken": 4}, {"name": "B", "taken": 4}]
    loads, runs, ends = lines[:2], lines[2:-2], lines[-2:]
    assert (loads, ends) == (["A loads", "B loads"], ["A ends", "B ends"])
    assert [line[0] for line in runs] == [*"ABBAABBA"]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.sampled_from([b"m", b"e"]), min_size=1, max_size=6), min_size=2, max_size=4))
def test_all_have_as_many_turns_until_none_needs_more(states):
    with told() as (pipe, _):
        actual = answers(*(turns_of(pipe, str(place), states_of) for place, states_of in enumerate(states)))
    longest = max(map(len, states))
    padded = [states_of + [b"e"] * (longest + 1 - len(states_of)) for states_of in states]
    content = next(place for place, said in enumerate(zip(*padded, strict=True)) if b"m" not in said)
    assert [answer["taken"] for answer in actual] == [content] * len(states)


def test_over_ends_it_for_all():
    with told() as (pipe, _):
        actual = answers(
            turns_of(pipe, "A", [forks.MORE] * 50), turns_of(pipe, "B", [forks.MORE, forks.MORE, forks.OVER])
        )
    assert [answer["taken"] for answer in actual] == [2, 2]


def test_work_that_knows_no_turns_is_done_in_its_first_one():
    with told() as (pipe, said):
        actual = answers(*(lambda turn, n=n: say(pipe, n) or {"name": n} for n in "ABC"))
        assert said() == ["A", "B", "C"]
    assert actual == [{"name": n} for n in "ABC"]


def test_a_long_answer_arrives_whole():
    assert answers(lambda turn: {"text": "x" * 3_000_000}) == [{"text": "x" * 3_000_000}]


@pytest.mark.parametrize("how", ["abort", "exit", "raise", "kill later"])
def test_one_that_crashes_leaves_the_others_their_answers(how):
    def broken(turn):
        if how == "abort":
            os.abort()
        if how == "exit":
            os._exit(7)
        if how == "raise":
            raise ValueError("in the fork")
        turn.give(forks.MORE)
        turn.take()
        os.kill(os.getpid(), signal.SIGKILL)

    with told() as (pipe, _):
        code, other = answers(broken, turns_of(pipe, "B", [forks.MORE] * 3))
    assert code == {"abort": -signal.SIGABRT, "exit": 7, "raise": 1, "kill later": -signal.SIGKILL}[how]
    assert other == {"name": "B", "taken": 3}


def test_no_fork_outlives_an_interrupted_parent():
    """Ctrl-C while one of them runs: all are gone when it is answered."""

    def endless(turn):
        time.sleep(600)

    pids = []

    def children():
        return set(
            map(int, Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split())
        )

    before = children()  # other tests' helpers

    def wait(pipe):
        pids.extend(children() - before)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        answers(endless, endless, wait=wait)
    assert pids
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_no_fork_outlives_a_killed_parent(tmp_path):
    """The pipe closes, and what waits for its turn ends."""
    program = tmp_path / "parent.py"
    program.write_text(f"""
import os, sys, time
sys.path.insert(0, {str(DEVICES / "host")!r})
import forks
def waiting(turn):
    print(os.getpid(), flush=True)
    turn.give(forks.MORE)
    while turn.take():
        turn.give(forks.MORE)
        time.sleep(0.001)
    return {{}}
forks.answers([waiting, waiting], lambda pipe: None)
""")
    with subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE, text=True) as parent:
        pids = [int(parent.stdout.readline()) for _ in range(2)]
        parent.kill()
        deadline = time.monotonic() + 20
        while any(_runs(pid) for pid in pids):
            assert time.monotonic() < deadline
            time.sleep(0.02)


def _runs(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"


PROGRAM = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
import forks

request, turn = forks.asked()
print("a runtime's own words")

def work(turn):
    if "exit" in request:
        os._exit(request["exit"])
    if request.get("abort"):
        os.abort()
    for state in request.get("states", []):
        turn.give(state.encode())
        if not turn.take():
            break
        with open(request["log"], "a") as log:
            log.write(request["name"])
    return {"name": request["name"], "text": "x" * request.get("length", 0)}

forks.work_and_leave(work, turn)
"""


def fresh_answers(tmp_path, *requests):
    """As `answers`, of fresh processes."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = [sys.executable, "-u", str(program), str(DEVICES / "host")]
    asked = [request | {"log": str(tmp_path / "log")} for request in requests]
    return forks.answers(asked, lambda pipe: None, lambda request, wait: forks.Fresh(command, request, wait))


def test_fresh_processes_take_turns_as_forks_do(tmp_path):
    states = ["m", "m", "m", "e", "e"]
    actual = fresh_answers(tmp_path, {"name": "A", "states": states}, {"name": "B", "states": states})
    assert [answer["name"] for answer in actual] == ["A", "B"]
    assert (tmp_path / "log").read_text() == "ABBAAB"


def test_a_long_answer_of_a_fresh_process_arrives_whole(tmp_path):
    (answer,) = fresh_answers(tmp_path, {"name": "A", "length": 3_000_000})
    assert len(answer["text"]) == 3_000_000


def test_a_fresh_process_that_crashes_leaves_the_others_their_answers(tmp_path):
    requests = [{"name": "A", "abort": True}, {"name": "B", "exit": 7}, {"name": "C"}]
    assert fresh_answers(tmp_path, *requests) == [-signal.SIGABRT, 7, {"name": "C", "text": ""}]


def test_a_command_that_does_not_even_listen_is_an_exit_code(tmp_path):
    command = [sys.executable, "-c", "raise SystemExit(9)"]
    ended = forks.answers([{}], lambda pipe: None, lambda request, wait: forks.Fresh(command, request, wait))
    assert ended == [9]


def test_no_fresh_process_waits_for_a_parent_that_is_gone(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    process = subprocess.Popen(
        [sys.executable, "-u", str(program), str(DEVICES / "host")], stdin=subprocess.PIPE
    )
    process.stdin.write(b'{"name": "A"}\n')
    process.stdin.close()
    assert process.wait(20) == 1
