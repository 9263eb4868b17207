"""One benchmark's measuring: rounds in fresh processes, base and candidate in turns, disturbed rounds once more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

from msgspec import Meta
from msgspec.structs import asdict

from nasvit_edge.benchmark.plan import BenchmarkProtocol, Participant, turn, units
from nasvit_edge.errors import MeasurementError
from nasvit_edge.listening import SILENT, Listener
from nasvit_edge.profile.summary import flags_of
from nasvit_edge.transport.answers import Answer, Failure, Flag, Measurement, contradicting
from nasvit_edge.transport.job import Job, Runner

DISTURBED = ("throttled", "preempted", "screen off", "low power mode")  # such a round counts for nothing
MOST_ROUNDS = 1000
_LEAST = 1e-9  # of a figure in ms, us or bytes
_MAY_BE_NONE = ("waited_share",)  # figures that are 0 where all is well


class Round(Measurement, frozen=True, kw_only=True):
    """What a round of an artifact gave; `position`: in the order of the session."""

    flags: tuple[Flag, ...]
    round: Annotated[int, Meta(ge=0, le=2 * MOST_ROUNDS)]
    position: Annotated[int, Meta(ge=0, le=1 << 30)]

    def __post_init__(self) -> None:
        figures = (
            value
            for name, value in asdict(self).items()
            if isinstance(value, float) and name not in _MAY_BE_NONE
        )
        least = min([*self.samples_us, *figures])
        if least < _LEAST:
            raise ValueError(f"{least!r} is no latency")
        if wrong := contradicting(self):
            raise ValueError(f"key {wrong!r} is not of its samples")

    @property
    def clean(self) -> bool:
        """Whether nothing disturbed it."""
        return not set(DISTURBED) & set(self.flags)


Rounds = list[list[Round]]  # of each entry


def measure(
    entries: Sequence[Participant],
    runner: Runner,
    protocol: BenchmarkProtocol,
    cores: Sequence[int],
    *,
    listener: Listener = SILENT,
    keep: Callable[[Rounds], None] = lambda rounds: None,
) -> Rounds:
    """Each entry's rounds, with all samples; `keep` is given what there is after every round.

    Units whose rounds were disturbed (by what the device says of them, never by their latencies) get more of
    them, at most half as many again.

    Raises:
        MeasurementError: an artifact does not run.
        DeviceError: the device is gone.
    """
    rounds: Rounds = [[] for _ in entries]
    chosen, position = units(entries), 0
    for number in range(protocol.rounds + protocol.extra):
        if number >= protocol.rounds:
            chosen = [unit for unit in units(entries) if _clean(rounds, unit) < protocol.rounds]
        left = sum(map(len, chosen))
        for unit in turn(chosen, number):
            later = max(0, protocol.rounds - number - 1) * len(entries)
            listener.progress(position, position + left + later, "measuring")
            answers = _answers(runner, [protocol.job(entries[place], number, cores) for place in unit])
            for place, answer in zip(unit, answers, strict=True):
                rounds[place].append(_round(answer, entries[place], number, position))
                position += 1
            left -= len(unit)
        if chosen:
            keep(rounds)
    listener.progress(position, position, "measured")
    return rounds


def _answers(runner: Runner, jobs: list[Job]) -> list[Answer]:
    if len(jobs) > 1:
        return runner.together(jobs)
    runner.fresh()
    return [runner.measure(jobs[0])]


def _clean(rounds: Rounds, unit: Sequence[int]) -> int:
    """Rounds in which nothing of a unit was disturbed."""
    clean = [{entry.round for entry in rounds[place] if entry.clean} for place in unit]
    return len(set.intersection(*clean))


def _round(answer: Answer, entry: Participant, number: int, position: int) -> Round:
    if isinstance(answer, Failure):
        raise MeasurementError(
            f"artifact {entry.name!r} could not be measured in round {number + 1}: {answer.error}"
        )
    fields = asdict(answer) | {"id": "", "flags": tuple(sorted(set(flags_of(answer))))}
    return Round(**fields, round=number, position=position)
