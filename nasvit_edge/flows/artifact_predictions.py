"""What latency tables predict of the artifacts of a benchmark, and how fast the device is before it is measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nasvit_edge.benchmark.plan import Participant
from nasvit_edge.device import Device
from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.export.artifact import open_artifact
from nasvit_edge.latency import LatencyTable, Prediction, load_table
from nasvit_edge.latency.speed import TodaysSpeed
from nasvit_edge.listening import SILENT, Listener
from nasvit_edge.profile.speed import todays_speed
from nasvit_edge.profile.trust import other_machine
from nasvit_edge.records import Fact
from nasvit_edge.transport.job import Runner


@dataclass(slots=True, kw_only=True)
class Predictions:
    """By the device's tables, where there are any of this very device.

    Attributes:
        spaces: name -> how a space that is not shipped was given.
        about: the device's fingerprint.
        canary: what times a few models of each table first; None: nothing does.
    """

    device: Device
    threads: int
    about: Mapping[str, Fact]
    spaces: Mapping[str, str] = field(default_factory=dict)
    canary: Runner | None = None
    listener: Listener = SILENT
    speeds: dict[Path, TodaysSpeed | None] = field(default_factory=dict)

    def of(self, entry: Participant) -> dict[str, object]:
        """What is predicted of an artifact, as facts of it; {} where nothing is."""
        if entry.facts.space is None:
            return {}
        try:
            table, prediction = self._prediction(entry)
        except NasvitEdgeError:  # there is no table for it
            return {}
        low, high = prediction.low_ms, prediction.high_ms
        if low is None or high is None or low <= 0 or other_machine(table, self.about) is not None:
            return {}
        by = {"predicted_by": table.setting, "today": self._speed(table)}
        return {"predicted_ms": (prediction.ms, low, high), **by}

    def _prediction(self, entry: Participant) -> tuple[LatencyTable, Prediction]:
        artifact = open_artifact(entry.path)
        original = artifact.space(self.spaces.get(entry.facts.space or ""))
        space = artifact.named(original)  # for other classes another op
        table = load_table(
            self.device.name,
            runtime=entry.runtime,
            threads=self.threads,
            precision=entry.facts.precision,
            space=space,
        )
        return table, table.predict(artifact.config(space))

    def _speed(self, table: LatencyTable) -> TodaysSpeed | None:
        if self.canary is None:
            return None
        if table.path not in self.speeds:
            self.speeds[table.path] = speed = todays_speed(table, self.listener, self.canary)
            if speed is not None and speed.differs:
                self.listener.note(f"table {table.path.name}: {speed.line()}")
        return self.speeds[table.path]
