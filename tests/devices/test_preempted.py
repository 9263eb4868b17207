"""Time that threads wait for a core is seen, whatever their number; a measurement that had its cores waited for none."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time

import pytest

from nasvit_edge import files
from nasvit_edge.profile.models import Item, Models
from nasvit_edge.profile.summary import flags_of
from nasvit_edge.space import load_space
from nasvit_edge.transport.answers import Measurement
from nasvit_edge.transport.job import Job
from nasvit_edge.transport.local import local_runner

HOST = files.shipped("devices") / "host"
CORES = tuple(sorted(os.sched_getaffinity(0)))[-2:]
BUSY = """import os, sys, time
os.sched_setaffinity(0, [int(sys.argv[1])])
parent, end = os.getppid(), time.monotonic() + 10
print(flush=True)
while os.getppid() == parent and time.monotonic() < end: pass
"""
TRIES = 3  # the kernel takes a twentieth of each second from what has real-time priority, and turns may fall together


def real_time(pid):
    """Put a process before all usual ones, and in turns with others of its kind: what else runs here takes none of its time."""
    os.sched_setscheduler(pid, os.SCHED_RR, os.sched_param(1))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    pytest.importorskip("onnxruntime")
    space = load_space("nano")
    return Models(space, "onnxruntime", tmp_path_factory.mktemp("m")).path(
        Item("whole", config=space.smallest())
    )[0]


@contextlib.contextmanager
def busy_loop(core):
    """A process that never gives up a core."""
    with subprocess.Popen([sys.executable, "-c", BUSY, str(core)], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        real_time(process.pid)
        try:
            yield
        finally:
            process.kill()


@pytest.fixture
def first():
    """This process and those it starts are before others."""
    try:
        real_time(0)
    except PermissionError:
        pytest.skip("needs the right to real-time priority")
    yield
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def measured(model, threads, *, together=False):
    job = Job(
        id="m",
        model=str(model),
        runtime="onnxruntime",
        threads=threads,
        cores=CORES[-threads:],
        runs=10,
        seconds=0.15,
        most_seconds=0.3,
        precision=1.0,
        seed=0,
    )
    with local_runner(HOST / "runner.py") as runner:
        if not together:
            return [runner.measure(job)]
        runner.about()
        return runner.together([job, job])


def undisturbed(answers):
    return all(isinstance(answer, Measurement) and not list(flags_of(answer)) for answer in answers)


def preempted(answers):
    return all("preempted" in flags_of(answer) and answer.waited_share > 0.2 for answer in answers)


def attempts(model, threads, together):
    return (measured(model, threads, together=together) for _ in range(TRIES))


@pytest.mark.slow
@pytest.mark.skipif(len(CORES) < 2, reason="needs two cores")
@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("threads", [1, 2])
def test_beside_a_busy_loop_on_its_core_a_measurement_is_preempted_and_alone_it_is_not(
    model, first, threads, together
):
    assert any(map(undisturbed, attempts(model, threads, together)))
    with busy_loop(CORES[-1]):
        assert any(map(preempted, attempts(model, threads, together)))


@pytest.fixture
def waiting(monkeypatch):
    monkeypatch.syspath_prepend(HOST)
    monkeypatch.delitem(sys.modules, "waiting", raising=False)
    import waiting

    yield waiting
    del sys.modules["waiting"]


def test_the_share_is_of_the_blocks_and_of_the_thread_that_waited_most(waiting, monkeypatch):
    second = 1_000_000_000
    counts = iter(
        [
            {"1": 0, "2": 5 * second, "9": 0},
            {"1": second // 100, "2": 5 * second + second // 50, "3": 7 * second},  # 9 ended, 3 began
            {"1": second // 100, "2": 9 * second},
            {"1": second // 100, "2": 9 * second + second // 50},
        ]
    )
    monkeypatch.setattr(waiting, "waits", lambda: next(counts))
    core_time = waiting.CoreTime()
    for _ in range(2):
        with core_time:
            time.sleep(0.1)
    shares = core_time.shares()
    assert shares["waited_share"] == pytest.approx(0.04 / core_time.spent_s, abs=0.001)
    assert shares["cpu_share"] < 0.5


def test_where_the_system_counts_no_waits_none_are_told(waiting, monkeypatch, tmp_path):
    monkeypatch.setattr(waiting, "_TASKS", tmp_path / "none")
    core_time = waiting.CoreTime()
    with core_time:
        pass
    assert set(core_time.shares()) == {"cpu_share"}
    (tmp_path / "none" / "7").mkdir(parents=True)
    (tmp_path / "none" / "7" / "schedstat").write_text("what\n")
    assert waiting.waits() == {}
