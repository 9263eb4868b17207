"""What every runner is asked, and what it does; `devices/protocol.json` is the same as a JSON schema.

One job at a time: its answer is on disk before the next one is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol

from msgspec import Meta

from nasvit_edge.listening import Listener
from nasvit_edge.transport.answers import Answer, Description, Message

Text = Annotated[str, Meta(min_length=1)]
Natural = Annotated[int, Meta(ge=0)]
MODEL_SECONDS = 120.0  # the longest a model may take; then the runner is restarted


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One model to time.

    Attributes:
        model: a path on this machine; a transport changes it to one there (pipe), or to the name that `files` are put under (HTTP).
        cores: to run on; none where the device decides.
        runs, seconds, most_seconds, precision: when sampling stops, see `devices/host/README.md`.
        seed: of the input's values.
        sustained_s: not 0: run so long without a pause and answer with windows.
        detail: load a file that is not in the system's cache, then once more, and tell the memory: load_ms, warm_load_ms, memory_bytes.
    """

    id: Text
    model: str
    runtime: str
    threads: Annotated[int, Meta(ge=1)]
    cores: tuple[Natural, ...]
    runs: Annotated[int, Meta(ge=1)]
    seconds: Annotated[float, Meta(ge=0)]
    most_seconds: Annotated[float, Meta(gt=0)]
    precision: Annotated[float, Meta(gt=0)]
    seed: Natural
    sustained_s: Annotated[float, Meta(ge=0)] = 0.0
    detail: bool = False

    def request(self, **changes: Any) -> Message:
        """The job as a JSON object, with what a transport changes in it; older runners never see `detail`."""
        fields = {name: getattr(self, name) for name in Job.__slots__ if name != "detail" or self.detail}
        return fields | changes


class Runner(Protocol):
    """A program on a device that times models, however it is reached."""

    def about(self) -> Description:
        """The device.

        Raises:
            DeviceError, MeasurementError: it cannot be reached, or does not say.
        """

    def cores(self, threads: int) -> tuple[int, ...]:
        """The cores to run on; none where the device decides."""

    def bring(self, models: Sequence[Path], listener: Listener) -> None:
        """Put model files where the runner reads them, before anything is timed."""

    def measure(self, job: Job, timeout_s: float = MODEL_SECONDS) -> Answer:
        """A measurement, or why this model failed; the next may work.

        Raises:
            DeviceError: the device is gone, and stayed away for as long as is waited for.
        """

    def together(self, jobs: Sequence[Job]) -> list[Answer]:
        """`measure` of each job, in new processes that take turns of some hundredths of a second; as `one_by_one` where the device cannot."""

    def fresh(self) -> None:
        """The next model runs in a new process, where the device has processes."""

    def close(self) -> None:
        """End what runs on the device, remove what was put there, restore what was set."""


def one_by_one(runner: Runner, jobs: Sequence[Job]) -> list[Answer]:
    """Jobs right after each other, each in a new process."""
    answers = []
    for job in jobs:
        runner.fresh()
        answers.append(runner.measure(job))
    return answers


def about_request(cores: Sequence[int]) -> Message:
    """What asks a runner for its device; of the cores that jobs will run on it tells clock and governor."""
    return {"id": "about", "ask": "about"} | ({"cores": list(cores)} if cores else {})


def requests(jobs: Sequence[Job], **changes: Sequence[str]) -> Message:
    """Jobs that take turns as a JSON object; `changes` are values of each job's fields."""
    messages = [
        job.request(**{key: values[place] for key, values in changes.items()})
        for place, job in enumerate(jobs)
    ]
    return {"id": "+".join(job.id for job in jobs), "jobs": messages}
