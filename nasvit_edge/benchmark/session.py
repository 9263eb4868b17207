"""One benchmark's measuring: rounds in fresh processes, disturbed ones once more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from nasvit_edge.benchmark.plan import Entry, Protocol, turn, units
from nasvit_edge.errors import MeasurementError
from nasvit_edge.profile.summary import flags_of
from nasvit_edge.transport.job import OnProgress, Runner

DISTURBED = ("throttled", "preempted", "screen off", "low power mode")  # such a round counts for nothing
Rounds = list[list[dict[str, Any]]]  # of each entry


def measure(
    entries: Sequence[Entry],
    runner: Runner,
    protocol: Protocol,
    cores: Sequence[int],
    *,
    on_progress: OnProgress = lambda done, total, detail: None,
    keep: Callable[[Rounds], None] = lambda rounds: None,
) -> Rounds:
    """Each entry's rounds, with all samples; `keep` is given what there is after every round.

    Units whose rounds were disturbed (by what the device says of them, never by their latencies) get more of
    them, at most half as many again.

    Raises:
        MeasurementError: an artifact does not run.
        DeviceError: the device is gone.
    """
    found: Rounds = [[] for _ in entries]
    chosen, position = units(entries), 0
    for number in range(protocol.rounds + protocol.extra):
        if number >= protocol.rounds:
            chosen = [unit for unit in units(entries) if _clean(found, unit) < protocol.rounds]
        order = turn(chosen, number)
        for place in order:
            on_progress(position, position + _left(entries, order, place, number, protocol), "measuring")
            runner.fresh()
            answer = runner.measure(protocol.job(entries[place], number, cores))
            found[place].append(_round(answer, entries[place], number, position))
            position += 1
        if order:
            keep(found)
    on_progress(position, position, "measured")
    return found


def clean(entry: dict[str, Any]) -> bool:
    """Whether nothing disturbed a round."""
    return not set(DISTURBED) & set(entry["flags"])


def _left(entries: Sequence[Entry], order: Sequence[int], place: int, number: int, protocol: Protocol) -> int:
    """Measurements to go, without further ones for disturbed rounds."""
    whole = max(0, protocol.rounds - number - 1) * sum(map(len, units(entries)))
    return whole + len(order) - order.index(place)


def _clean(found: Rounds, unit: Sequence[int]) -> int:
    """Rounds in which nothing of a unit was disturbed."""
    kept = [{entry["round"] for entry in found[place] if clean(entry)} for place in unit]
    return len(set.intersection(*kept))


def _round(answer: dict[str, Any], entry: Entry, number: int, position: int) -> dict[str, Any]:
    if "error" in answer:
        raise MeasurementError(
            f"artifact {entry.name!r} could not be measured in round {number + 1}: {answer['error']}"
        )
    flags = sorted(set(flags_of(answer)))
    return {key: value for key, value in answer.items() if key != "id"} | {
        "round": number,
        "position": position,
        "flags": flags,
    }
