"""What is measured in a benchmark, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from msgspec import Meta, field

from nasvit_edge.benchmark.accuracy import Accuracy, SavedAccuracy
from nasvit_edge.latency.setting import TableSetting
from nasvit_edge.latency.speed import TodaysSpeed
from nasvit_edge.records import Positive, Record, Share
from nasvit_edge.transport.job import Job

Text = Annotated[str, Meta(min_length=1, max_length=1 << 24, description="a text that is not empty")]

ROUNDS = 8
ORDER = "ABBA"


class Facts(Record, frozen=True, kw_only=True, omit_defaults=False):
    """What is known of a file without measuring; None where it is not.

    Attributes:
        path, sha256, bytes, format, precision: the file; its path as it was given.
        space, config, macs: of exports, where they are known.
        int8_macs: the share of its multiply-accumulates that is in int8; null of a file that claims no 8 bits.
        fallback_ops: how many ops the runtime's delegate or parser would not take.
        predicted_ms: value, low and high end by the device's latency table (of a fine-tuned subnet by that of the space it is from;
            `--space TOML` finds one of its own).
        predicted_by: what that table holds for: device, runtime, threads, precision, machine, date.
        today: how fast the device was right before, against that table: `factor`, `noise` ([tables](tables.md#todays-speed);
            `--no-canary`: not looked at).
        stored: `data`, `images`, `top1`, `hits`: a bit an image, packed, in base64; of a segmenter `data`, `images`, `classes`,
            `mean_iou`, `overlaps`: of each scene the pixels of each class that are right, then those of the union, 32-bit integers in
            base64.
    """

    sha256: Text
    bytes: Annotated[int, Meta(ge=1, le=1 << 50)]
    format: Text
    precision: Text
    stored: SavedAccuracy | None = field(default=None, name="accuracy")
    predicted_ms: tuple[Positive, Positive, Positive] | None = None
    predicted_by: TableSetting | None = None
    today: TodaysSpeed | None = None
    fallback_ops: Annotated[int, Meta(ge=0, le=1 << 30)] | None = None
    macs: Annotated[int, Meta(ge=1, le=1 << 60)] | None = None
    int8_macs: Share | None = None
    path: str | None = None
    space: str | None = None
    config: str | None = None

    @property
    def today_ms(self) -> float | None:
        """The prediction at the device's speed before it was measured; None where that is not known, or within the noise."""
        if self.predicted_ms is None or self.today is None or not self.today.differs:
            return None
        return self.predicted_ms[0] * self.today.factor

    @property
    def accuracy(self) -> Accuracy | None:
        """What it gets right of labelled images, where that was measured."""
        return None if self.stored is None else self.stored.opened()


_UNKNOWN = Facts(sha256="unknown", bytes=1, format="unknown", precision="unknown")


@dataclass(frozen=True, slots=True, kw_only=True)
class Participant:
    """An artifact that takes part.

    Attributes:
        name: what reports call it.
        model: what the runtime reads, where that is not the artifact itself but a file in it.
        baseline: the place in the list of the artifact that this one is compared with; None: it is compared with none.
    """

    name: str
    path: Path
    runtime: str
    model: Path | None = None
    baseline: int | None = None
    facts: Facts = _UNKNOWN

    @property
    def file(self) -> Path:
        """What the runtime reads."""
        return self.model or self.path


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkProtocol:
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

    def job(self, entry: Participant, number: int, cores: Sequence[int]) -> Job:
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


def units(entries: Sequence[Participant]) -> list[tuple[int, ...]]:
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
