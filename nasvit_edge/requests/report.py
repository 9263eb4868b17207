"""What `nasvit-edge report` is asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

_File = Path | None
_Page = Annotated[_File, typer.Option(help="Write a page that opens without network.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Benchmark results, the rule of their verdicts, and what is written of them."""

    results: Annotated[list[Path], typer.Argument(help="Result files of `nasvit-edge benchmark`.")]
    baseline: Annotated[
        _File, typer.Option(help="A stored result of the same device: shown as a trend, never a verdict.")
    ] = None
    budget: Annotated[_File, typer.Option(help="Limits as TOML; see docs/ci.md.")] = None
    min_effect: Annotated[
        str | None, typer.Option(show_default="3%", help="The smallest change that counts.")
    ] = None
    alpha: Annotated[
        str, typer.Option(help="Chance of a false alarm; intervals are of level 1 - 2 alpha.")
    ] = "1%"
    gate: Annotated[
        list[str] | None,
        typer.Option(help="Metrics whose regression fails, instead of the usual ones; repeatable."),
    ] = None
    history: Annotated[
        _File,
        typer.Option(help="Append to this JSONL file (or one a device in a folder), and show its line."),
    ] = None
    markdown: Annotated[_File, typer.Option(help="Write a pull-request comment.")] = None
    html: _Page = None
    junit: Annotated[_File, typer.Option(help="Write JUnit XML.")] = None
    github: Annotated[
        _File, typer.Option("--github-action-benchmark", help="Write its customSmallerIsBetter JSON.")
    ] = None
    bencher: Annotated[_File, typer.Option(help="Write Bencher Metric Format JSON.")] = None
    out: Annotated[_File, typer.Option(help="Write the report as JSON.")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """A history, and which lines of it; None is all, and * and ? in a name are possible."""

    path: Annotated[
        Path, typer.Argument(help="What `report bench --history` appends to: a file or a folder.")
    ]
    device: Annotated[
        str | None, typer.Option(show_default="all", help="Only this device; * and ? are possible.")
    ] = None
    artifact: Annotated[
        str | None, typer.Option(show_default="all", help="Only this artifact; * and ? are possible.")
    ] = None
    metric: Annotated[
        list[str] | None,
        typer.Option(show_default="latency_p50", help="latency_p90, size, top1, ...; repeatable."),
    ] = None
    last: Annotated[int | None, typer.Option(min=1, help="Only so many runs of each line.")] = None
    html: _Page = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConflictsRequest:
    """Training runs, and which of their steps."""

    runs: Annotated[
        list[Path],
        typer.Argument(help="Folders of runs trained with --conflicts; with --at, a run or weights."),
    ]
    steps: Annotated[
        str | None, typer.Option(help="Only these steps, like 1000:5000; either end may be left out.")
    ] = None
    from_epoch: Annotated[int | None, typer.Option(min=0, help="Only from this epoch on, from 0.")] = None
    to_epoch: Annotated[int | None, typer.Option(min=0, help="Only up to this epoch.")] = None
    at: Annotated[
        str | None,
        typer.Option(
            help="Instead: the gradients of the weights at this step (a checkpoint that is kept), or at the end."
        ),
    ] = None
    data: Annotated[str | None, typer.Option(help="With --at: the images, as of train.")] = None
    batches: Annotated[
        int | None, typer.Option(min=1, max=4096, show_default="64", help="With --at: how many batches.")
    ] = None
    html: _Page = None
    png: Annotated[_File, typer.Option(help="Write a picture.")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """Training runs whose curves are drawn beside each other."""

    runs: Annotated[list[Path], typer.Argument(help="Folders of runs.")]
    html: _Page = None
    png: Annotated[_File, typer.Option(help="Write a picture.")] = None
