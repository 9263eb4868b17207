"""What every runner is asked and answers; `devices/protocol.json` is the same as a JSON schema.

One job at a time: its answer is on disk before the next one is asked for.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

MODEL_SECONDS = 120.0  # the longest a model may take; then the runner is restarted
FLAGS = (
    "throttled",
    "preempted",
    "unlocked clocks",
    "low power mode",
    "screen off",
    "fallback",
    "coarse clock",
    "unsteady",
)
_FIGURES = (
    *("load_ms", "first_ms", "warm_load_ms", "memory_bytes"),
    *("cpu_share", "energy_mj", "power_mw", "clock_us"),
)
OnProgress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One model to time.

    Attributes:
        model: the model file (or folder), on this machine; a transport gives the runner what it reads there.
        seconds, most_seconds, runs, precision: when sampling stops, see `devices/host/README.md`.
        sustained_s: for so long without a pause, in windows, instead of samples; 0 for samples.
        detail: also how long a cold and a warm load take, and the peak of memory, where the runner can tell.
    """

    id: str
    model: str
    runtime: str
    threads: int
    cores: tuple[int, ...]
    runs: int
    seconds: float
    most_seconds: float
    precision: float
    seed: int
    sustained_s: float = 0.0
    detail: bool = False

    def request(self, **changes: Any) -> dict[str, Any]:
        """The job as a JSON object, with what a transport changes in it; older runners never see `detail`."""
        own = {name: getattr(self, name) for name in Job.__slots__ if name != "detail" or self.detail}
        return own | changes


class Runner(Protocol):
    """A program on a device that times models, however it is reached."""

    def about(self) -> dict[str, Any]:
        """The device.

        Returns:
            `about`: what it is, the same at every connection (the fingerprint of tables); `busy_cores`: how many
            cores others keep busy, None if unknown; `runtimes`: runtime -> version of those it has;
            `conditions`: power mode, clocks, temperature, battery: what may differ the next time.

        Raises:
            DeviceError, MeasurementError: it cannot be reached, or does not say.
        """

    def cores(self, threads: int) -> tuple[int, ...]:
        """The cores to run on; none where the device decides."""

    def bring(self, models: Sequence[Path], on_progress: OnProgress) -> None:
        """Put model files where the runner reads them, before anything is timed."""

    def measure(self, job: Job, timeout_s: float = MODEL_SECONDS) -> dict[str, Any]:
        """A measurement as `measurement` checks it, or `id` and `error`: then this model failed, the next may work.

        Raises:
            DeviceError: the device is gone, and stayed away for as long as is waited for.
        """

    def together(self, jobs: Sequence[Job]) -> list[dict[str, Any]]:
        """`measure` of each job, in new processes that take turns of some hundredths of a second; as `one_by_one` where the device cannot."""

    def fresh(self) -> None:
        """The next model runs in a new process, where the device has processes."""

    def close(self) -> None:
        """End what runs on the device, remove what was put there, restore what was set."""


def one_by_one(runner: Runner, jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """Jobs right after each other, each in a new process."""
    found = []
    for job in jobs:
        runner.fresh()
        found.append(runner.measure(job))
    return found


def requests(jobs: Sequence[Job], **changes: Sequence[str]) -> dict[str, Any]:
    """Jobs that take turns as a JSON object; `changes` are values of each job's fields."""
    own = [
        job.request(**{key: values[place] for key, values in changes.items()})
        for place, job in enumerate(jobs)
    ]
    return {"id": "+".join(job.id for job in jobs), "jobs": own}


def answers(answer: dict[str, Any], jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """What was answered to `requests`, for each job: a JSON object with its id, or an error."""
    if "error" in answer:
        return [failed(job.id, answer["error"]) for job in jobs]
    own = answer.get("answers")
    if not isinstance(own, list) or len(own) != len(jobs):
        return [failed(job.id, f"the runner answered with {str(own)[:80]!r}") for job in jobs]
    return [checked(part, job.id) for part, job in zip(own, jobs, strict=True)]


def parsed(line: str, name: str) -> dict[str, Any]:
    """An answer to `name`, or an error: garbage is never taken for a number."""
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict) or answer.get("id") != name:
        return failed(name, f"the runner answered with {line[:80].strip()!r}") | {"garbage": True}
    return checked(answer, name)


def checked(answer: Any, name: str) -> dict[str, Any]:
    """An object that answers `name`, or an error."""
    if not isinstance(answer, dict) or answer.get("id") != name:
        return failed(name, f"the runner answered with {str(answer)[:80]!r}")
    return failed(name, str(answer["error"])[:500]) if "error" in answer else answer


def measurement(answer: dict[str, Any], name: str) -> dict[str, Any]:
    """The known fields of a measurement, each of its kind; an error where there are no latencies."""
    samples, told = answer.get("samples_us"), str(answer.get("samples_us"))
    samples = samples if isinstance(samples, list) and all(map(is_positive, samples)) else []
    if not samples or not isinstance(answer.get("runtime_version"), str):
        return failed(name, f"the runner's samples are no latencies: {told[:80]!r}")
    found = {"id": name, "samples_us": samples, "runtime_version": answer["runtime_version"]}
    for key in _FIGURES:
        if is_positive(answer.get(key)):
            found[key] = answer[key]
    if type(answer.get("inner")) is int and answer["inner"] > 0:
        found["inner"] = answer["inner"]
    flags = answer.get("flags")
    if isinstance(flags, list) and any(flag in FLAGS for flag in flags):
        found["flags"] = sorted({flag for flag in flags if flag in FLAGS})
    if "turns" in answer:
        if not _adds_up(answer["turns"], len(samples)):
            return failed(name, f"the runner's turns are not of its samples: {str(answer['turns'])[:80]!r}")
        found["turns"] = answer["turns"]
    if "windows" in answer:
        windows = _windows(answer["windows"])
        if windows is None:
            return failed(name, f"the runner's windows are no latencies: {str(answer['windows'])[:80]!r}")
        found["windows"] = windows
    return found | {key: _state(answer[key]) for key in ("before", "after") if key in answer}


def _adds_up(turns: Any, samples: int) -> bool:
    """Whether these are the numbers of samples of turns."""
    return isinstance(turns, list) and all(type(n) is int and n > 0 for n in turns) and sum(turns) == samples


def _windows(value: Any) -> list[list[float]] | None:
    """[seconds since the start, median in us] of the windows of a sustained run."""
    if not isinstance(value, list) or not value:
        return None
    good = all(isinstance(w, list) and len(w) == 2 and all(map(is_positive, w)) for w in value)
    rising = good and all(a[0] < b[0] for a, b in itertools.pairwise(value))
    return value if rising else None


def _state(value: Any) -> dict[str, Any]:
    """Clocks, temperature and thermal state as the device told them; nothing where that is not what it told."""
    if not isinstance(value, dict):
        return {}
    clocks = value.get("clocks_mhz")
    found: dict[str, Any] = {}
    if isinstance(clocks, list) and clocks and all(is_positive(c) for c in clocks):
        found["clocks_mhz"] = clocks
    if is_positive(value.get("hottest_c")):
        found["hottest_c"] = value["hottest_c"]
    if isinstance(value.get("thermal"), str):
        found["thermal"] = value["thermal"][:40]
    return found


def is_positive(value: Any) -> bool:
    """Whether a value is a number a latency, clock or temperature can be."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e10


def failed(name: str, reason: str) -> dict[str, Any]:
    """The answer for a model that could not be measured."""
    return {"id": name, "error": reason}
