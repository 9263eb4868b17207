"""Where an artifact's ops can run: what a target's delegate or parser would not take, by layer, before a device is at hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Outside:
    """A layer that a target would not take, and why."""

    layer: str
    op: str
    why: str


@dataclass(frozen=True, slots=True)
class Placement:
    """What one target makes of an artifact.

    Attributes:
        asked: its own code was asked, or a list was read.
        runtimes: those that this is about.
    """

    target: str
    ops: int
    outside: tuple[Outside, ...]
    asked: bool
    note: str = ""
    runtimes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        rows = [{"layer": o.layer, "op": o.op, "why": o.why} for o in self.outside]
        return {
            "target": self.target,
            "ops": self.ops,
            "asked": self.asked,
            "note": self.note,
            "outside": rows,
        }
