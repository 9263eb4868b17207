"""Where an artifact's ops can run: what a target's delegate or parser would not take, by layer, before a device is at hand."""

from __future__ import annotations

from nasvit_edge.records import Record


class Outside(Record, frozen=True):
    """A layer that a target would not take, and why."""

    layer: str
    op: str
    why: str


class Placement(Record, frozen=True):
    """What one target makes of an artifact.

    Attributes:
        asked: its own code was asked, or a list was read.
        runtimes: those that this is about.
    """

    target: str
    ops: int
    outside: tuple[Outside, ...]
    asked: bool
    note: str
    runtimes: tuple[str, ...] = ()
