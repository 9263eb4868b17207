"""What `nasvit-edge tables` is asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from nasvit_edge.requests import options

Table = Annotated[
    str, typer.Argument(help="A table: its file, its name in `tables list`, or host:litert:2t.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class TableShown:
    """A table."""

    table: Table
    space: options.SpaceOfTable = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Diff:
    """Two tables."""

    first: Table
    second: Table
    space: options.SpaceOfTable = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Validate:
    """A table, and how many whole subnets it is compared with."""

    table: Table = "host"
    subnets: Annotated[int, typer.Option(min=4, max=10_000, help="Whole subnets to measure.")] = 40
    seed: Annotated[int, typer.Option(min=0)] = 1
    space: options.SpaceOfTable = None
    device: Annotated[
        str | None,
        typer.Option(
            show_default="known by the table's name for it", help="The device that measured the table."
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refit:
    """Tables."""

    table: Annotated[list[str], typer.Argument(help="Tables: files or names in `tables list`.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """A published table, and what it becomes."""

    kind: Annotated[str, typer.Argument(help="nn-meter.")]
    file: Annotated[Path, typer.Argument(help="The downloaded table.")]
    device: Annotated[str, typer.Option(help="What to call the device: pixel-1.")]
    space: options.Space = "nasvit"
    unit: Annotated[
        Literal["s", "ms", "us", "ns"] | None,
        typer.Option(
            show_default="ms, if the ops would run at a possible speed", help="What its latencies are in."
        ),
    ] = None
    out: Annotated[Path, typer.Option(help="The folder of the table.")] = Path("latency_tables")
