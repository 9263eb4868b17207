"""`nasvit-edge search`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from nasvit_edge.cli import options
from nasvit_edge.cli.output import CANDIDATE_COLUMNS, candidate_row, note, print_json, print_table, progress


def search(
    latency: Annotated[str, typer.Option(help="The budget, with its unit: 20ms, 800us.")],
    device: options.Device = "host",
    space: options.Space = "nasvit",
    supernet: options.Supernet = None,
    data: Annotated[
        str | None, typer.Option(help="Images to measure accuracy on: bundled, fashion-mnist, or a folder.")
    ] = None,
    accuracy: Annotated[
        str | None, typer.Option(help="An accuracy predictor: a shipped name (nasvit) or a JSON file.")
    ] = None,
    runtime: options.Runtime = "onnxruntime",
    threads: options.Threads = 1,
    precision: options.Precision = "fp32",
    table: Annotated[Path | None, typer.Option(help="A latency table file, instead of the device's.")] = None,
    interpolate: options.Interpolate = False,
    population: Annotated[int | None, typer.Option(min=2, max=100_000)] = None,
    generations: Annotated[int | None, typer.Option(min=1, max=100_000)] = None,
    seed: options.Seed = 0,
    out: options.Out = Path("search.json"),
    as_json: options.Json = False,
) -> None:
    """Example:  nasvit-edge search --latency 20ms --device host --space nasvit

    The most accurate subnet whose predicted latency meets the budget. Writes a result file that
    `export` reads.
    """
    from nasvit_edge import files, units
    from nasvit_edge.flows import search as flow

    budget_ms = units.latency_ms(latency)
    files.writable_folder(out.parent)
    request = flow.Request(
        space=space,
        supernet=supernet,
        data=data,
        accuracy=accuracy,
        device=device,
        runtime=runtime,
        threads=threads,
        precision=precision,
        table=str(table) if table else None,
        interpolate=interpolate,
    )
    with progress("measuring ops") as show:
        prepared = flow.prepare(request, note=note, on_profile=show)
    points = 100 * prepared.setting.accuracy_uncertainty
    note(
        f"accuracy: {prepared.accuracy_source} (good to about {points:.1f} points); table: {prepared.table_name}"
    )
    with progress("searching") as show:
        result = flow.go(prepared, budget_ms, seed, population, generations, on_progress=show)
    files.write_json(out, result)
    coverage = result["best"]["coverage"]
    if coverage < 1:
        note(f"measured: {coverage:.0%} of the winner's time; the rest is estimated")
    _show(result, out, as_json)


def _show(result: dict[str, Any], out: Path, as_json: bool) -> None:
    if as_json:
        print_json(result)
        return
    title = f"best of {result['evaluated']} subnets within {result['budget_ms']:g} ms"
    print_table(CANDIDATE_COLUMNS, [candidate_row(result["best"])], title)
    near = [c for c in result["front"] if c != result["best"]][-6:]
    if near:
        print_table(CANDIDATE_COLUMNS, [candidate_row(c) for c in near], "faster ones on the front")
    note(f"wrote {out}; next: nasvit-edge export {out} --format onnx")
