"""The local transport: a device's runner as a child process on this machine."""

from __future__ import annotations

import contextlib
import os
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

from nasvit_edge import host_code, systems
from nasvit_edge.device import Device
from nasvit_edge.errors import DeviceError
from nasvit_edge.listening import Listener
from nasvit_edge.runtimes import RUNTIMES
from nasvit_edge.transport.answers import (
    Answer,
    Broken,
    Description,
    Failure,
    Lost,
    Message,
    about_of,
    in_turns,
    measured,
)
from nasvit_edge.transport.job import MODEL_SECONDS, Job, about_request, one_by_one, requests
from nasvit_edge.transport.last_words import crash, with_last_words
from nasvit_edge.transport.process import LineProcess
from nasvit_edge.transport.ways import Step, Transport

BUSY = 0.25  # cores that others may keep busy


class LocalRunner:
    """Answers jobs one by one; survives models that crash or hang the runtime."""

    def __init__(self, program: Path, cores: Sequence[int] = ()) -> None:
        self.program, self.chosen = program, tuple(cores)
        self.said: deque[str] = deque(maxlen=20)  # on stderr
        self.child = LineProcess(lambda: [sys.executable, "-u", str(program)], self.said.append)
        self.takes_turns = False  # until it says that it does

    def about(self, timeout_s: float = 60.0) -> Description:
        """What this machine is; MeasurementError where the runner does not say."""
        answer = self.child.request(about_request(self.chosen), timeout_s)
        description = about_of(answer, str(self.program), Description)
        self.takes_turns = description.turns
        return description

    def cores(self, threads: int) -> tuple[int, ...]:
        """The fastest cores."""
        return fastest_cores(threads)

    def bring(self, models: Sequence[Path], listener: Listener) -> None:
        """Models are here already."""

    def measure(self, job: Job, timeout_s: float = MODEL_SECONDS) -> Answer:
        """The runner's measurement, or why the model, the runner or its output failed."""
        return measured(self._request(job.request(), timeout_s + job.sustained_s), job.id)

    def together(self, jobs: Sequence[Job]) -> list[Answer]:
        """The answers of a runner that takes turns, or of jobs one by one."""
        if not self.takes_turns:
            return one_by_one(self, jobs)
        self.fresh()
        names = [job.id for job in jobs]
        answer = self._request(requests(jobs), len(jobs) * MODEL_SECONDS)
        return [measured(part, name) for part, name in zip(in_turns(answer, names), names, strict=True)]

    def _request(self, request: Message, timeout_s: float) -> Message | Failure:
        """The answer; `Broken`, with the signal and the last words, where the runner or its fork died of it."""
        self.said.clear()
        answer = self.child.request(request, timeout_s)
        if isinstance(answer, Lost) and answer.code is not None:
            return Broken(id=answer.id, error=f"the runtime crashed ({crash(list(self.said), answer.code)})")
        return with_last_words(answer, self.said) if isinstance(answer, Broken) else answer

    def fresh(self) -> None:
        """End the child; the next request starts another."""
        self.child.close()

    def close(self) -> None:
        """End the child, whatever it is doing."""
        self.child.close()


def check_local(device: Device) -> Iterator[Step]:
    """This machine: its runner, runtimes and what else keeps it busy."""
    with local_runner(device.runner, device.cores) as runner:
        yield from described(runner.about(), device)


def described(description: Description, device: Device) -> Iterator[Step]:
    """What a runner says of its device, as steps."""
    about, busy = description.about, description.busy_cores
    yield Step("device", True, ", ".join(str(about[k]) for k in ("board", "soc", "os") if k in about))
    if about.get("emulated"):
        what = f"{about['emulated']} computes its instructions: latencies mean nothing"
        yield Step("emulated", False, what, "measure on a real one before you choose by latency")
    for runtime in (name for name in device.runtimes if systems.has_format(RUNTIMES[name].form)):
        version = description.runtimes.get(runtime)
        yield Step(
            runtime,
            version is not None,
            version or "not there",
            "" if version else RUNTIMES[runtime].install,
        )
    for name, value in description.conditions.items():
        yield Step(name, True, str(value))
    if busy is not None:
        quiet = busy <= BUSY
        todo = "" if quiet else "end what else runs there: latencies would be slow and scattered"
        yield Step("other work", quiet, f"keeps {busy:.1f} cores busy", todo)


def missing_runtime(device: Device, runtime: str) -> DeviceError:
    """What to say where a device does not have a runtime."""
    return DeviceError(f"device {device.name!r} does not have {runtime}", RUNTIMES[runtime].install)


@contextlib.contextmanager
def local_runner(program: Path, cores: Sequence[int] = ()) -> Iterator[LocalRunner]:
    """A runner that is gone afterwards, also after Ctrl-C; `cores` are those that jobs will run on, where they are chosen."""
    runner = LocalRunner(program, cores)
    try:
        yield runner
    finally:
        runner.close()


def fastest_cores(threads: int) -> tuple[int, ...]:
    """The cores to run on: the fastest, the last of equals; none (wherever the system likes) where all are needed."""
    try:
        usable = sorted(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return ()
    if threads >= len(usable):
        return ()
    clock = host_code.machine().highest_mhz
    return tuple(sorted(sorted(usable, key=lambda core: (clock(core), core))[-threads:]))


TRANSPORT = Transport(
    connect=lambda device, ways, listener: local_runner(device.runner, device.cores),
    check=lambda device, ways, listener: check_local(device),
)
