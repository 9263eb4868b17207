"""The local transport: a device's runner as a child process on this machine."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from nasvit_edge.device import Device
from nasvit_edge.errors import DeviceError, MeasurementError
from nasvit_edge.transport.job import (
    MODEL_SECONDS,
    Job,
    OnProgress,
    answers,
    measurement,
    one_by_one,
    requests,
)
from nasvit_edge.transport.process import LineProcess
from nasvit_edge.transport.ways import Step

BUSY = 0.25  # cores that others may keep busy
_INSTALL = {
    "onnxruntime": "run there: python3 -m pip install numpy onnxruntime",
    "litert": "run there: python3 -m pip install numpy ai-edge-litert",
    "tensorrt": "install NVIDIA's JetPack (apt install nvidia-jetpack), or give the path of trtexec as `tool`",
}


class LocalRunner:
    """Answers jobs one by one; survives models that crash or hang the runtime."""

    def __init__(self, program: Path) -> None:
        self.program = program
        self.child = LineProcess(lambda: [sys.executable, "-u", str(program)])
        self.takes_turns = False  # until it says that it does

    def about(self, timeout_s: float = 60.0) -> dict[str, Any]:
        """What this machine is; MeasurementError where the runner does not say."""
        answer = self.child.request({"id": "about", "ask": "about"}, timeout_s)
        self.takes_turns = answer.get("turns") is True
        return about_of(answer, str(self.program))

    def cores(self, threads: int) -> tuple[int, ...]:
        """The fastest cores."""
        return fastest_cores(threads)

    def bring(self, models: Sequence[Path], on_progress: OnProgress) -> None:
        """Models are here already."""

    def measure(self, job: Job, timeout_s: float = MODEL_SECONDS) -> dict[str, Any]:
        """The runner's answer; one with `error` where the model, the runner or its output failed."""
        answer = self.child.request(job.request(), timeout_s + job.sustained_s)
        return answer if "error" in answer else measurement(answer, job.id)

    def together(self, jobs: Sequence[Job]) -> list[dict[str, Any]]:
        """The answers of a runner that takes turns, or of jobs one by one."""
        if not self.takes_turns:
            return one_by_one(self, jobs)
        self.fresh()
        answer = self.child.request(requests(jobs), len(jobs) * MODEL_SECONDS)
        return [
            own if "error" in own else measurement(own, job.id)
            for own, job in zip(answers(answer, jobs), jobs, strict=True)
        ]

    def fresh(self) -> None:
        """End the child; the next request starts another."""
        self.child.close()

    def close(self) -> None:
        """End the child, whatever it is doing."""
        self.child.close()


def check_local(device: Device) -> Iterator[Step]:
    """This machine: its runner, runtimes and what else keeps it busy."""
    with local_runner(device.runner) as runner:
        yield from described(runner.about(), device)


def described(answer: dict[str, Any], device: Device) -> Iterator[Step]:
    """What a runner says of its device, as steps."""
    about, busy = answer["about"], answer["busy_cores"]
    yield Step("device", True, ", ".join(str(about[k]) for k in ("board", "soc", "os") if k in about))
    for runtime in device.runtimes:
        version = answer["runtimes"].get(runtime)
        yield Step(
            runtime, version is not None, version or "not there", "" if version else f"{_INSTALL[runtime]}"
        )
    for name, value in answer["conditions"].items():
        yield Step(name, True, str(value))
    if busy is not None:
        quiet = busy <= BUSY
        todo = "" if quiet else "end what else runs there: latencies would be slow and scattered"
        yield Step("other work", quiet, f"keeps {busy:.1f} cores busy", todo)


def missing_runtime(device: Device, runtime: str) -> DeviceError:
    """What to say where a device does not have a runtime."""
    return DeviceError(f"device {device.name!r} does not have {runtime}; {_INSTALL[runtime]}")


def about_of(answer: dict[str, Any], who: str) -> dict[str, Any]:
    """A runner's description of its device, each field of its kind; MeasurementError where it gave none."""
    if not isinstance(answer.get("about"), dict):
        reason = answer.get("error", "no description of the device")
        raise MeasurementError(f"the runner {who!r} does not answer: {reason}")
    busy, runtimes, conditions = (answer.get(key) for key in ("busy_cores", "runtimes", "conditions"))
    return {
        "about": answer["about"],
        "busy_cores": busy if isinstance(busy, int | float) else None,
        "runtimes": {str(k): str(v) for k, v in runtimes.items()} if isinstance(runtimes, dict) else {},
        "conditions": conditions if isinstance(conditions, dict) else {},
    }


@contextlib.contextmanager
def local_runner(program: Path) -> Iterator[LocalRunner]:
    """A runner that is gone afterwards, also after Ctrl-C."""
    runner = LocalRunner(program)
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
    return tuple(sorted(sorted(usable, key=lambda core: (_clock(core), core))[-threads:]))


def _clock(core: int) -> int:
    try:
        return int(Path(f"/sys/devices/system/cpu/cpu{core}/cpufreq/cpuinfo_max_freq").read_text())
    except (OSError, ValueError):
        return 0
