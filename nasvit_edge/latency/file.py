"""What the file of a latency table holds, as records."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from nasvit_edge.records import Number, Record


class State(Record, frozen=True, kw_only=True):
    """What a device told of itself right before or after a measurement."""

    clocks_mhz: Annotated[tuple[Number, ...], Meta(min_length=1)] | None = None
    hottest_c: Number | None = None
    thermal: str | None = None
