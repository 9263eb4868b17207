"""Processes that work for this one: lost ones say how, stalled ones are noticed, none outlives its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from conftest import one_line
from hypothesis import given
from hypothesis import strategies as st

from nasvit_edge import processes
from nasvit_edge.errors import DataError, NasvitEdgeError
from nasvit_edge.processes import LostProcessError, Pool, StalledProcessError, fate


@given(st.none() | st.integers(-200, 300))
def test_any_exit_code_is_told_in_words(code):
    assert fate(code).split()[0] in ("was", "ended", "crashed", "no")


def test_a_kill_speaks_of_memory_and_a_bus_error_of_shared_memory():
    assert "memory" in fate(-signal.SIGKILL)
    assert "/dev/shm" in fate(-signal.SIGBUS)
    assert "SIGTERM" in fate(-signal.SIGTERM)
    assert fate(3) == "ended with exit code 3"


def started(*arguments: object) -> None:
    """What a worker does first."""


def refused() -> None:
    raise DataError("images 'x': no such folder")


def doing(work: tuple[str, object]) -> object:
    """What a worker is asked for."""
    kind, value = work
    if kind == "die":
        os.kill(os.getpid(), int(str(value)))
    elif kind == "read":
        return Path(str(value)).read_bytes()
    elif kind == "sleep":
        time.sleep(float(str(value)))
    elif kind == "compute":
        end = time.monotonic() + float(str(value))
        while time.monotonic() < end:
            pass
    elif kind == "raise":
        raise DataError("image 'x.png' is damaged")
    return value


@pytest.fixture
def pool():
    workers = Pool(2, started, (), who="a worker", silent_s=3.0)
    yield workers
    workers.close()


def alive(workers: Pool) -> list[int]:
    """Which are there a second later: the executor's own thread may be taking the exit code of one just now."""
    end = time.monotonic() + 1
    while (pids := [p.pid for p in workers.processes if p.is_alive()]) and time.monotonic() < end:
        time.sleep(0.01)
    return pids


def test_results_come_in_order_and_a_user_s_error_as_itself(pool):
    assert list(pool.map(doing, [("give", i) for i in range(5)])) == list(range(5))
    with pytest.raises(DataError, match="damaged") as caught:
        list(pool.map(doing, [("give", 1), ("raise", 0)]))
    one_line(caught)
    assert not alive(pool)


def test_what_fails_at_the_start_is_raised_by_the_first_call():
    workers = Pool(1, refused, (), who="a worker")
    with pytest.raises(DataError, match="no such folder"):
        list(workers.map(doing, [("give", 1)]))


def test_a_lost_process_is_one_line_with_its_reason(pool):
    with pytest.raises(LostProcessError, match="a worker was lost: it was killed") as caught:
        list(pool.map(doing, [("give", 1), ("die", int(signal.SIGKILL)), ("sleep", 60)]))
    one_line(caught)
    assert not alive(pool)


@pytest.mark.slow
def test_a_process_that_waits_for_ever_is_noticed_and_one_that_computes_is_not(pool, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    began = time.monotonic()
    taken = pool.map(doing, [("compute", 5.0), ("read", tmp_path / "pipe")])
    assert next(taken) == 5.0
    with pytest.raises(StalledProcessError, match="computed nothing for") as caught:
        next(taken)
    one_line(caught)
    assert time.monotonic() - began < 60
    assert not alive(pool)


def test_leaving_early_does_not_wait_for_what_is_under_way(pool):
    taken = pool.map(doing, [("give", 1), ("sleep", 100)])
    assert next(taken) == 1
    began = time.monotonic()
    taken.close()
    assert time.monotonic() - began < 5
    assert not alive(pool)


PARENT = """
import os, sys
sys.path.insert(0, {tests!r})
from test_processes import doing, started
from nasvit_edge.processes import Pool
if __name__ == "__main__":
    made = Pool(2, started, (), who="a worker")
    taken = made.map(doing, [("give", 1), ("give", 2), ("read", {pipe!r}), ("sleep", 1000)])
    print(next(taken), next(taken), *(p.pid for p in made.processes), flush=True)
    next(taken)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_process_outlives_the_one_it_works_for(tmp_path, number):
    os.mkfifo(tmp_path / "pipe")
    script = tmp_path / "parent.py"
    script.write_text(PARENT.format(tests=str(Path(__file__).parent), pipe=str(tmp_path / "pipe")))
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()[2:]]
        assert len(pids) == 2
        parent.send_signal(number)
    end = time.monotonic() + 15
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < end:
        time.sleep(0.1)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_errors_of_processes_are_errors_for_users():
    assert issubclass(LostProcessError, NasvitEdgeError)
    assert issubclass(StalledProcessError, NasvitEdgeError)
    assert processes.SILENT_S >= 300


FAMILY = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("groups", [True, False], ids=["by its group", "where there are no groups"])
def test_a_process_is_ended_with_what_it_started(monkeypatch, groups):
    if not groups:
        monkeypatch.delattr(os, "killpg")
    how = {"start_new_session": processes.SESSION, "creationflags": processes.GROUP}
    with subprocess.Popen([sys.executable, "-c", FAMILY], stdout=subprocess.PIPE, text=True, **how) as parent:
        child = psutil.Process(int(parent.stdout.readline()))
        processes.end_all(parent.pid)
        assert parent.wait(20) == -signal.SIGKILL
    gone, alive = psutil.wait_procs([child], 20)
    assert (gone, alive) == ([child], [])


def test_a_process_that_is_gone_is_ended_without_a_word(monkeypatch):
    monkeypatch.delattr(os, "killpg")
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait(20)
    processes.end_all(process.pid)


def test_what_windows_calls_a_crash_is_one():
    assert fate(0xC0000005) == fate(-signal.SIGSEGV)


REUSING = """
import resource, sys
from nasvit_edge import processes
if sys.argv[1:]:
    processes.reuse_memory()
for _ in range(10):
    values = b'x' * (64 << 20)
    del values
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc")
def test_freed_memory_is_taken_again_without_the_system_clearing_it_each_time():
    def faults(*words):
        command = [sys.executable, "-c", REUSING, *words]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert faults("reused") < faults() / 2
