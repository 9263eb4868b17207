"""What `nasvit-edge search` is asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from nasvit_edge.requests import options

_Text = str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A budget on a device, and what subnets are looked at and how; what is None is filled in."""

    latency: Annotated[
        list[str] | None,
        typer.Option(help="The budget: 20ms; repeat with names for several: host=8ms host:litert:int8=5ms."),
    ] = None
    device: options.TableDevice = None
    space: Annotated[
        _Text, typer.Option(show_default="nasvit", help="nasvit, alphanet, nano, or a path to a TOML file.")
    ] = None
    latency_p90: Annotated[
        list[str] | None, typer.Option(help="A budget that 90 % of runs keep to, as --latency.")
    ] = None
    max_size: Annotated[_Text, typer.Option(help="Of the exported file: 20MB.")] = None
    max_params: Annotated[_Text, typer.Option(help="Parameters: 10M.")] = None
    max_macs: Annotated[_Text, typer.Option(help="Multiply-accumulates of an image: 500M.")] = None
    max_memory: Annotated[_Text, typer.Option(help="Activations that are alive at once: 8MB.")] = None
    min_accuracy: Annotated[_Text, typer.Option(help="80%; alone: the fastest subnet that has it.")] = None
    resolution: Annotated[_Text, typer.Option(help="Only these input sizes: 192 or 192,224.")] = None
    gene: Annotated[
        list[str] | None, typer.Option(help="Only these choices of a gene: mb4.depth=3,4; repeatable.")
    ] = None
    exclude: Annotated[
        list[str] | None, typer.Option(help="Not these choices of a gene: mb5.width=128; repeatable.")
    ] = None
    confidence: Annotated[
        _Text, typer.Option(help="90%: budgets hold for the upper end of the prediction's interval.")
    ] = None
    steady: Annotated[
        bool,
        typer.Option("--steady", help="Budgets hold for a device that is warm: see profile --sustained."),
    ] = False
    max_loss: Annotated[
        _Text,
        typer.Option(
            help="With --precision mixed: what precisions may cost of the accuracy, in points, as 0.5.",
            show_default="0.5",
        ),
    ] = None
    confirm: Annotated[
        int | None,
        typer.Option(min=1, max=100, help="Measure this many of the best, correct predictions, and repeat."),
    ] = None
    confirm_by: Annotated[
        _Text,
        typer.Option(show_default="p90", help="What has to be within the budget when measured: p90, median."),
    ] = None
    method: Annotated[
        str, typer.Option(help="evolutionary, or exact: the provable optimum of the predictors.")
    ] = "evolutionary"
    supernet: options.Supernet = None
    data: Annotated[
        _Text, typer.Option(help="Images to measure accuracy on: bundled, fashion-mnist, or a folder.")
    ] = None
    labels_in_order: options.LabelsInOrder = False
    accuracy: Annotated[
        _Text, typer.Option(help="A predictor: a shipped name (nasvit, nano) or a JSON file; or: measured.")
    ] = None
    minutes: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            max=10_000,
            help="Measure accuracies for so long, fit a predictor to them, and search with that.",
        ),
    ] = None
    table: options.TableChoice = field(default_factory=options.TableChoice)
    with_size: Annotated[
        bool,
        typer.Option("--size-front", help="Keep smaller files on the front, too, not only faster subnets."),
    ] = False
    population: Annotated[int | None, typer.Option(min=2, max=100_000)] = None
    generations: Annotated[int | None, typer.Option(min=1, max=100_000)] = None
    workers: Annotated[
        int | None, typer.Option(min=1, max=256, help="Processes that measure accuracies.")
    ] = None
    seed: options.Seed = 0
    html: Annotated[Path | None, typer.Option(help="Also write an interactive page of the front.")] = None
    png: Annotated[Path | None, typer.Option(help="Also write a picture of the front.")] = None
    out: options.Out = Path("search.json")
