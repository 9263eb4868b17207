"""What is measured in a benchmark, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nasvit_edge.transport.job import Job

ROUNDS = 8
ORDER = "ABBA"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An artifact that takes part.

    Attributes:
        name: what reports call it.
        model: what the runtime reads, where that is not the artifact itself but a file in it.
        baseline: the place in the list of the artifact that this one is compared with; None: it is compared with none.
        facts: what is known of the file without measuring, as in the result file.
    """

    name: str
    path: Path
    runtime: str
    model: Path | None = None
    baseline: int | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        """What the runtime reads."""
        return self.model or self.path


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """How much: `rounds` fresh processes an artifact, each with samples as `devices/host/README.md` says."""

    rounds: int = ROUNDS
    runs: int = 50
    seconds: float = 0.5
    most_seconds: float = 3.0
    precision: float = 0.02
    threads: int = 1
    seed: int = 0

    @property
    def extra(self) -> int:
        """Rounds beyond, for what was disturbed."""
        return self.rounds // 2

    def job(self, entry: Entry, number: int, cores: Sequence[int]) -> Job:
        """One round of an artifact."""
        return Job(
            id=f"{entry.name}:{number}",
            model=str(entry.file),
            runtime=entry.runtime,
            threads=self.threads,
            cores=tuple(cores),
            runs=self.runs,
            seconds=self.seconds,
            most_seconds=self.most_seconds,
            precision=self.precision,
            seed=self.seed,
            detail=True,
        )


def units(entries: Sequence[Entry]) -> list[tuple[int, ...]]:
    """What runs together: base and candidate, or an artifact alone."""
    bases = {entry.baseline for entry in entries}
    return [
        (place,) if entry.baseline is None else (entry.baseline, place)
        for place, entry in enumerate(entries)
        if place not in bases
    ]


def turn(chosen: Sequence[tuple[int, ...]], number: int) -> list[tuple[int, ...]]:
    """The order of a round: every other one backwards, so that a drift cancels (ABBA)."""
    return [unit[::-1] for unit in reversed(chosen)] if number % 2 else list(chosen)
