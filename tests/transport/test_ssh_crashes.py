"""A runtime that dies of a signal, on a board behind a real OpenSSH server: told as that, never as a lost connection, with an end."""

from __future__ import annotations

import contextlib
import textwrap
import threading
import time
from types import SimpleNamespace

import pytest
from commands import run
from transport.sshd import Proxy, running_sshd
from transport.test_ssh import job, model, once, runners, told, write_board

from nasvit_edge.transport import ssh_link
from nasvit_edge.transport.answers import Broken, Failure, Measurement

# fixtures are imported by name
__all__ = ["model", "once"]
# A module of the runtime's name that is found first. It counts the sessions that are made, in a file, and stands back for the real one.
MODULE = """
import os, signal, sys
from pathlib import Path
here = str(Path(__file__).parent)
sys.path.remove(here)
print("thread pool of 4, 0x1234", file=sys.stderr)
{on_import}
del sys.modules["onnxruntime"]
import onnxruntime
real = onnxruntime.InferenceSession
count = Path({count!r})
def session(*arguments, **options):
    with count.open("a") as stream:
        stream.write(".")
    sessions = len(count.read_text())
    {on_session}
    return real(*arguments, **options)
onnxruntime.InferenceSession = session
"""
DIES = "os.kill(os.getpid(), signal.{})"
KILLS_RUNNER = "(os.kill(os.getppid(), signal.{}), __import__('time').sleep(0.2))"


@pytest.fixture(scope="module")
def server():
    with running_sshd() as sshd:
        yield sshd


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(ssh_link, "_PAUSES_S", (0.01, 0.02, 0.03))


@pytest.fixture
def board(server, tmp_path):
    """A device of the server whose runtime does something when it is imported, or when it makes a session."""
    count = server.home / "count"

    def board_that(on_import="", on_session="pass"):
        count.write_text("")
        count.chmod(0o666)
        folder = server.root / "broken"
        folder.mkdir(exist_ok=True)
        text = textwrap.dedent(MODULE).format(on_import=on_import, on_session=on_session, count=str(count))
        (folder / "onnxruntime.py").write_text(text)
        lines = server.python.read_text().splitlines()
        add = f'export PYTHONPATH="{folder}:$PYTHONPATH"'
        first = (
            lines[1].replace("PYTHONPATH=", f"PYTHONPATH={folder}:")
            if "PYTHONPATH=" in lines[1]
            else lines[1]
        )
        python = server.program("broken-python", "\n".join([lines[0], add, first]) + "\n")
        return server.device(python=str(python), runtimes=["onnxruntime"])

    yield board_that
    count.unlink()


@pytest.mark.parametrize("name", ["SIGILL", "SIGSEGV"])
def test_a_runtime_that_dies_when_it_is_imported_fails_the_job_with_signal_and_last_words(
    server, board, model, name
):
    with told(server, board(on_import=DIES.format(name))) as (runner, notes):
        answer = runner.measure(job(model))
        assert isinstance(answer, Broken)
        assert "crashed 2 times at it" in answer.error
        assert name in answer.error
        assert "thread pool of 4, 0x1234" in answer.error
        assert runner.link.starts == 3, "the start, once more, and one that tells how it ended"
    assert not [note for note in notes if "connection" in note]
    assert any(name in note and "once more" in note for note in notes)
    assert server.left() == []


def test_a_model_that_kills_its_fork_fails_at_once_and_the_runner_stays(server, board, model):
    with told(server, board(on_session=DIES.format("SIGBUS"))) as (runner, notes):
        answer = runner.measure(job(model))
        assert isinstance(answer, Broken)
        assert "the runtime crashed (SIGBUS)" in answer.error
        assert "it said last" in answer.error
        assert runner.link.starts == 1
    assert notes == []


def test_a_model_that_kills_the_runner_fails_and_the_next_is_measured(server, board, model):
    crashing = f"sessions <= 2 and {KILLS_RUNNER.format('SIGSEGV')}"
    with told(server, board(on_session=crashing)) as (runner, _):
        first = runner.measure(job(model, "first"))
        assert isinstance(first, Broken)
        assert "SIGSEGV" in first.error
        assert isinstance(runner.measure(job(model, "second")), Measurement)
        assert runner.link.losses == 0


@pytest.mark.slow
def test_a_runner_that_dies_at_every_third_session_measures_all_in_the_end(server, board, model):
    crashing = f"sessions % 3 == 0 and {KILLS_RUNNER.format('SIGILL')}"
    with told(server, board(on_session=crashing)) as (runner, notes):
        answers = [runner.measure(job(model, name)) for name in "abcde"]
        assert all(isinstance(answer, Measurement) for answer in answers)
        assert runner.link.starts == 3
    assert len([note for note in notes if "SIGILL" in note]) == 2


def profile(server, device, tmp_path, *options):
    """`profile` on a device of the server, as a command."""
    write_board(device, tmp_path)
    command = ["profile", "--device", "board.toml", "--space", "space.toml", "--protocol", "quick"]
    return run(*command, "--out", "tables", *options, cwd=tmp_path)


def test_three_models_in_a_row_that_crash_end_the_profile_and_what_was_measured_is_kept(
    server, board, tmp_path
):
    """From the sixth session on the runtime crashes; afterwards the same command continues with a sound one."""
    done = profile(server, board(on_session=f"sessions > 5 and {DIES.format('SIGILL')}"), tmp_path)
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if "models in a row" in line]
    assert "SIGILL" in line
    assert "5 finished measurements are kept, the same command continues" in line
    assert len((server.home / "count").read_text()) == 5 + 3
    assert server.left() == []
    (journal,) = (tmp_path / "tables").glob(".*.partial.jsonl")
    kept = journal.read_text().splitlines()
    assert len(kept) == 1 + 5


@pytest.mark.slow
def test_a_runtime_that_cannot_be_imported_ends_the_profile_after_three_models(server, board, tmp_path):
    done = profile(server, board(on_import=DIES.format("SIGILL")), tmp_path)
    assert done.returncode == 2
    assert "3 models in a row could not be measured: the runtime crashed 2 times at it (SIGILL" in done.stderr
    assert done.stderr.count("trying it once more") == 3
    assert "connection" not in done.stderr
    assert server.left() == []


@pytest.mark.slow
def test_a_connection_that_is_lost_again_and_again_waits_longer_and_has_an_end(server, model, monkeypatch):
    """Nothing crashed there: the network breaks each time that a model is timed."""
    proxy, over, rests = Proxy(server.port), threading.Event(), []

    def cut():
        while not over.wait(0.02):
            if len(runners(server)) == 2:  # the runner and its fork
                proxy.cut()

    server.trust(port=proxy.port)
    thread = threading.Thread(target=cut)
    try:
        with told(server, server.device(port=proxy.port)) as (runner, notes):
            resting = SimpleNamespace(sleep=rests.append, monotonic=time.monotonic)
            monkeypatch.setattr(ssh_link, "time", resting)
            thread.start()
            answer = runner.measure(job(model, seconds=30, most_seconds=30))
            over.set()
            assert isinstance(answer, Failure)
            assert "the connection was lost 3 times at it" in answer.error
            assert rests == [0.01, 0.02]
            assert isinstance(runner.measure(job(model)), Measurement)
            assert runner.link.losses == 0
    finally:
        over.set()
        with contextlib.suppress(RuntimeError):
            thread.join()
        server.trust()
        proxy.close()
    assert len([note for note in notes if "was lost and is there again" in note]) == 3
