"""What runners answer, as records; what they send is checked here and nowhere else.

What is needed of an answer makes it a `Failure` where it is not of its kind. An observation beside it (clocks, a temperature, a time to
load) is left out then: it never ends the work that it observes.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from functools import cache
from typing import Annotated, Any, Literal, TypeVar, get_args

import msgspec
from msgspec import Meta, field

from nasvit_edge.errors import MeasurementError
from nasvit_edge.latency.file import State
from nasvit_edge.records import Amount, Count, Fact, Number, Record, RecordError, Whole, parse

Flag = Literal[
    "throttled",
    "preempted",
    "unlocked clocks",
    "low power mode",
    "screen off",
    "fallback",
    "coarse clock",
    "unsteady",
]
FLAGS: tuple[Flag, ...] = get_args(Flag)
_TEXT, _ENTRIES = 300, 40  # of what a device says of itself
_WRONG = {
    "samples_us": "samples are no latencies",
    "runtime_version": "runtime_version is no text",
    "turns": "turns are not of its samples",
    "windows": "windows are no latencies",
}

Message = dict[str, Any]  # a JSON object, before it is known what it says


class Measurement(Record, frozen=True, kw_only=True):
    """What a model took.

    Attributes:
        inner: calls in a row that a sample is the mean of.
        clock_us: the step of the clock.
        warm_load_ms: a second load in the same process.
        memory_bytes: what the model added to the process at its peak.
        cpu_share: how many cores the process kept busy.
        waited_share: of the time, what one of its threads waited for a core, at most.
        energy_mj: of an inference, where power was read.
        turns: how many of the samples each turn gave, of models that took turns.
        windows: (seconds since the start, median in us) of a sustained run.
    """

    id: str = ""
    samples_us: Annotated[tuple[Number, ...], Meta(min_length=1)]
    runtime_version: str
    load_ms: Number | None = None
    first_ms: Number | None = None
    warm_load_ms: Number | None = None
    memory_bytes: Number | None = None
    cpu_share: Number | None = None
    waited_share: Amount | None = None
    energy_mj: Number | None = None
    power_mw: Number | None = None
    clock_us: Number | None = None
    inner: Count | None = None
    flags: tuple[Flag, ...] = ()
    turns: Annotated[tuple[Count, ...], Meta(min_length=1)] | None = None
    windows: Annotated[tuple[tuple[Number, Number], ...], Meta(min_length=1)] | None = None
    before: State | None = None
    after: State | None = None


class Failure(Record, frozen=True, kw_only=True):
    """Why this model could not be measured; the next one may work."""

    id: str
    error: str


class Full(Failure, frozen=True, kw_only=True):
    """The device's disk has no room."""


class Broken(Failure, frozen=True, kw_only=True):
    """The runtime, its runner or the way there broke at this model, and may at every other."""


class Garbled(Failure, frozen=True, kw_only=True):
    """Something else was answered."""


class Lost(Failure, frozen=True, kw_only=True):
    """The runner died, with this exit code, or was given up: None."""

    code: int | None


Answer = Measurement | Failure


class Description(Record, frozen=True, kw_only=True):
    """What a device says of itself.

    Attributes:
        about: what it is, the same at every connection: the fingerprint of tables.
        busy_cores: how many cores others keep busy; None where it does not know.
        runtimes: runtime -> version of those it has.
        conditions: power mode, clocks, temperature, battery: what may differ the next time.
        install: made by a client and kept; tells two devices of one kind apart.
        turns: whether models can take turns there.
    """

    about: dict[str, Fact]
    busy_cores: Annotated[float, Meta(ge=0, lt=1e4)] | None = None
    runtimes: dict[str, str] = field(default_factory=dict)
    conditions: dict[str, Fact] = field(default_factory=dict)
    install: str = ""
    turns: bool = False


class SshDescription(Description, frozen=True, kw_only=True):
    """A description over ssh.

    Attributes:
        board: texts of the board's own tools; the host reads them.
        cores_by_clock: the fastest first, of equals the last first.
        missing: packages that runtimes need and that are not there.
    """

    board: dict[str, Any] = field(default_factory=dict)
    cores_by_clock: tuple[Whole, ...] = ()
    missing: tuple[str, ...] = ()


D = TypeVar("D", bound=Description)
R = TypeVar("R", bound=Record)
_CRASHED = "the runtime crashed"  # what `devices/host/runner.py` says of a fork that died of a signal
_NO_ROOM = "no space left"  # what runners (`devices/linux-ssh`, `devices/jetson`) say of a full disk


def parsed(line: str, name: str) -> Message | Failure | None:
    """The object or the error that answers `name`; None for anything else: garbage is never taken for a number."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return checked(value, name) if isinstance(value, dict) and value.get("id") == name else None


def checked(value: Any, name: str) -> Message | Failure:
    """An object that answers `name`, or why it is none."""
    if not isinstance(value, dict) or value.get("id") != name:
        return garbage(str(value), name)
    if "error" not in value:
        return value
    error = str(value["error"])[:500]
    kind = Full if _NO_ROOM in error else Broken if _CRASHED in error else Failure
    return kind(id=name, error=error)


def garbage(text: str, name: str) -> Failure:
    """The answer to `name` where something else was answered."""
    return Garbled(id=name, error=f"the runner answered with {text[:80].strip()!r}")


def in_turns(message: Message | Failure, names: Sequence[str]) -> list[Message | Failure]:
    """What was answered to `job.requests`, for each job."""
    if isinstance(message, Failure):
        return [msgspec.structs.replace(message, id=name) for name in names]
    parts = message.get("answers")
    if not isinstance(parts, list) or len(parts) != len(names):
        return [garbage(str(parts), name) for name in names]
    return [checked(part, name) for part, name in zip(parts, names, strict=True)]


def measured(message: Message | Failure, name: str) -> Answer:
    """The measurement in an answer."""
    return message if isinstance(message, Failure) else measurement(message, name)


def measurement(message: Message, name: str) -> Answer:
    """The known fields of a measurement, each of its kind; a failure where there are no latencies."""
    needed = {key: message[key] for key in _WRONG if message.get(key) is not None}
    try:
        answer = parse(
            Measurement, fitting(Measurement, _trimmed(message)) | needed | {"id": name}, "measurement"
        )
    except RecordError as error:
        wrong = next(key for key in _WRONG if error.key.startswith(key))
    else:
        wrong = contradicting(answer)
        if not wrong:
            return answer
    return Failure(id=name, error=f"the runner's {_WRONG[wrong]}: {str(message.get(wrong))[:80]!r}")


def _trimmed(message: Message) -> Message:
    """With what is known of flags and states."""
    flags = message.get("flags")
    known = sorted({flag for flag in flags if flag in FLAGS}) if isinstance(flags, list) else []
    states = {key: _state(message[key]) for key in ("before", "after") if isinstance(message.get(key), dict)}
    return message | {"flags": known} | states


def _state(message: Message) -> Message:
    """Of a state what is of its kind."""
    thermal = message.get("thermal")
    short = {"thermal": printable(thermal)[:40]} if isinstance(thermal, str) else {}
    return fitting(State, message | short)


def contradicting(answer: Measurement) -> str:
    """The field that others contradict; empty where all is well."""
    if answer.turns is not None and sum(answer.turns) != len(answer.samples_us):
        return "turns"
    rising = all(a[0] < b[0] for a, b in itertools.pairwise(answer.windows or ()))
    return "" if rising else "windows"


def about_of(message: Message | Failure, who: str, kind: type[D]) -> D:
    """A runner's description of its device; MeasurementError where it gave none."""
    record = None if isinstance(message, Failure) else description(message, kind)
    if record is None:
        reason = message.error if isinstance(message, Failure) else "no description of the device"
        raise MeasurementError(f"the runner {who!r} does not answer: {reason}")
    return record


def description(message: Message, kind: type[D]) -> D | None:
    """What a description may hold, each of its kind; None where it is none."""
    if not isinstance(message.get("about"), dict):
        return None
    plain = {key: plain_values(message.get(key)) for key in ("about", "runtimes", "conditions")}
    plain["runtimes"] = {name: str(version) for name, version in plain["runtimes"].items()}
    install = printable(message.get("install") or "")[:64]
    return fitted(kind, message | plain | {"install": install})


def fitted(kind: type[R], value: Any) -> R:
    """A record of those of an object's fields that are of their kinds."""
    return msgspec.convert(fitting(kind, value), kind)


def fitting(kind: type[Record], value: Any) -> Message:
    """An object's fields that are of their kinds."""
    fields = value if isinstance(value, dict) else {}
    return {
        name: fields[name]
        for name, type_ in _fields(kind).items()
        if name in fields and _fits(fields[name], type_)
    }


@cache  # annotations are texts, and slow to read
def _fields(kind: type[Record]) -> dict[str, object]:
    return {field.name: field.type for field in msgspec.structs.fields(kind)}


def _fits(value: Any, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind)
    except (msgspec.ValidationError, RecursionError):
        return False
    return True


def plain_values(value: Any) -> dict[str, Fact]:
    """The texts, numbers and truths of an object, cut to a sane size."""
    if not isinstance(value, dict):
        return {}
    facts: dict[str, Fact] = {}
    for key, item in list(value.items())[:_ENTRIES]:
        if isinstance(item, str):
            facts[printable(key)] = printable(item)
        elif item is None or (isinstance(item, bool | int | float) and abs(item) < 1e18):
            facts[printable(key)] = item
    return facts


def printable(text: Any) -> str:
    """Text from elsewhere as a terminal may show it."""
    return "".join(c if c.isprintable() else " " for c in str(text)[:_TEXT])


def is_positive(value: Any) -> bool:
    """Whether a value is a number a latency, clock or temperature can be."""
    return _fits(value, Number)
