"""`nasvit-edge search` and `explain`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nasvit_edge.cli import options
from nasvit_edge.cli.output import (
    CANDIDATE_COLUMNS,
    candidate_row,
    note,
    print_json,
    print_table,
    progress,
    show_config,
)
from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.hints import DATA, WEIGHTS, command

if TYPE_CHECKING:
    from nasvit_edge.searching.saved import ResultFile

_Text = str | None


@options.with_weights_key
def search(
    latency: Annotated[
        list[str] | None,
        typer.Option(help="The budget: 20ms; repeat with names for several: host=8ms host:litert:int8=5ms."),
    ] = None,
    device: options.TableDevice = None,
    space: Annotated[
        _Text, typer.Option(show_default="nasvit", help="nasvit, alphanet, nano, or a path to a TOML file.")
    ] = None,
    latency_p90: Annotated[
        list[str] | None, typer.Option(help="A budget that 90 % of runs keep to, as --latency.")
    ] = None,
    max_size: Annotated[_Text, typer.Option(help="Of the exported file: 20MB.")] = None,
    max_params: Annotated[_Text, typer.Option(help="Parameters: 10M.")] = None,
    max_macs: Annotated[_Text, typer.Option(help="Multiply-accumulates of an image: 500M.")] = None,
    max_memory: Annotated[_Text, typer.Option(help="Activations that are alive at once: 8MB.")] = None,
    min_accuracy: Annotated[_Text, typer.Option(help="80%; alone: the fastest subnet that has it.")] = None,
    resolution: Annotated[_Text, typer.Option(help="Only these input sizes: 192 or 192,224.")] = None,
    gene: Annotated[
        list[str] | None, typer.Option(help="Only these choices of a gene: mb4.depth=3,4; repeatable.")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="Not these choices of a gene: mb5.width=128; repeatable.")
    ] = None,
    confidence: Annotated[
        _Text, typer.Option(help="90%: budgets hold for the upper end of the prediction's interval.")
    ] = None,
    steady: Annotated[
        bool,
        typer.Option("--steady", help="Budgets hold for a device that is warm: see profile --sustained."),
    ] = False,
    confirm: Annotated[
        int | None,
        typer.Option(min=1, max=100, help="Measure this many of the best, correct predictions, and repeat."),
    ] = None,
    confirm_by: Annotated[
        _Text,
        typer.Option(show_default="p90", help="What has to be within the budget when measured: p90, median."),
    ] = None,
    method: Annotated[
        str, typer.Option(help="evolutionary, or exact: the provable optimum of the predictors.")
    ] = "evolutionary",
    supernet: options.Supernet = None,
    data: Annotated[
        _Text, typer.Option(help="Images to measure accuracy on: bundled, fashion-mnist, or a folder.")
    ] = None,
    labels_in_order: options.LabelsInOrder = False,
    accuracy: Annotated[
        _Text, typer.Option(help="A predictor: a shipped name (nasvit, nano) or a JSON file; or: measured.")
    ] = None,
    runtime: options.TableRuntime = None,
    threads: options.TableThreads = None,
    precision: options.TablePrecision = None,
    table: options.TableFile = None,
    interpolate: options.Interpolate = False,
    with_size: Annotated[
        bool,
        typer.Option("--size-front", help="Keep smaller files on the front, too, not only faster subnets."),
    ] = False,
    population: Annotated[int | None, typer.Option(min=2, max=100_000)] = None,
    generations: Annotated[int | None, typer.Option(min=1, max=100_000)] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, max=256, help="Processes that measure accuracies.")
    ] = None,
    seed: options.Seed = 0,
    html: Annotated[Path | None, typer.Option(help="Also write an interactive page of the front.")] = None,
    png: Annotated[Path | None, typer.Option(help="Also write a picture of the front.")] = None,
    out: options.Out = Path("search.json"),
    as_json: options.Json = False,
) -> None:
    """Example:  nasvit-edge search --latency 20ms --device host --space nasvit

    The most accurate subnet whose predicted latency meets the budget. Writes a result file that
    `export` reads.
    """
    from msgspec.structs import replace

    from nasvit_edge import files, records
    from nasvit_edge.flows import search as flow
    from nasvit_edge.flows.limits import Wanted
    from nasvit_edge.searching.infeasible import InfeasibleError

    for path in (out, html, png):
        if path is not None:
            files.writable_folder(path.parent)
    wanted = Wanted(
        latency=latency or (),
        latency_p90=latency_p90 or (),
        max_size=max_size,
        max_params=max_params,
        max_macs=max_macs,
        max_memory=max_memory,
        min_accuracy=min_accuracy,
        confidence=confidence,
        steady=steady,
    )
    request = flow.Request(
        space=space or "nasvit",
        left_out={} if space else {"space": "nasvit"},
        usual=options.usual_device(),
        wanted=wanted,
        supernet=supernet,
        data=data,
        accuracy=accuracy,
        device=device,
        runtime=runtime,
        threads=threads,
        precision=precision,
        table=str(table) if table else None,
        interpolate=interpolate,
        resolution=resolution,
        keep=tuple(gene or ()),
        drop=tuple(exclude or ()),
        with_size=with_size,
        workers=workers,
        in_order=labels_in_order,
    )
    _refuse_idle(confirm, confirm_by, method, population, generations)
    partial = out.with_name(f"{out.name}.partial")
    plan = flow.Plan(method=method, population=population, generations=generations, resume_at=partial)
    try:
        result = _found(request, plan, seed, None if confirm is None else (confirm, confirm_by or "p90"))
    except InfeasibleError as error:
        _show_nearest(error, as_json)
        raise
    result = replace(result, command=("nasvit-edge", *sys.argv[1:]))
    records.write(out, result)
    _pictures(result, html, png)
    _show(result, out, as_json)


def _refuse_idle(
    confirm: int | None, by: str | None, method: str, population: int | None, generations: int | None
) -> None:
    """NasvitEdgeError for an option that the others leave nothing to do."""
    if by is not None and confirm is None:
        raise NasvitEdgeError(f"--confirm-by {by} is for --confirm N: give that too, or leave it out")
    for name, value in (("population", population), ("generations", generations)):
        if value is not None and method == "exact":
            raise NasvitEdgeError(
                f"--{name} {value} is of the evolutionary search, and --method exact has none: leave out one of the two"
            )


def _found(request: Any, plan: Any, seed: int, confirm: tuple[int, Any] | None) -> ResultFile:
    """The result, searched for and, where that is asked for, measured."""
    from nasvit_edge.flows import confirm as confirming
    from nasvit_edge.flows import search as flow

    with progress("measuring ops") as show:
        prepared = flow.prepare(request, note=note, on_profile=show)
    setting = prepared.setting
    if setting.filled:
        note(
            f"left out, and filled in: {', '.join(f'{key} {value}' for key, value in setting.filled.items())}"
        )
    good_to = f"good to about {100 * setting.accuracy_uncertainty:.1f} points"
    quality = getattr(prepared.problem.accuracy, "quality", "accuracy")
    note(f"{quality}: {setting.accuracy_source} ({good_to})")
    with progress("searching") as show:
        if confirm is None:
            return flow.go(prepared, seed, plan, on_progress=show, note=note)
        return confirming.go(prepared, seed, plan, *confirm, on_progress=show, note=note)


def _export(result: ResultFile, out: Path) -> str:
    """The command that exports what was found; with what a predictor's search does not know."""
    setting = result.setting
    more = {} if setting.supernet else {"supernet": WEIGHTS}
    more |= {} if setting.calibration else {"calibrate": DATA}
    return command("export", out, format="onnx", **more)


def _show_nearest(error: Any, as_json: bool) -> None:
    """What an impossible request came nearest to."""
    if as_json:
        print_json({"status": "infeasible"} | error.report)
    else:
        note(f"nearest: {show_config(error.report['nearest']['config'])}")


@options.with_weights_key
def explain(
    result: Annotated[Path, typer.Argument(help="A result file of `nasvit-edge search`.")],
    table: Annotated[
        Path | None, typer.Option(help="The latency table, where it is not found by its name.")
    ] = None,
    accuracy: Annotated[
        _Text, typer.Option(help="The predictor, where the result is from elsewhere and names its file.")
    ] = None,
    supernet: Annotated[_Text, typer.Option(help="The weights, as --accuracy.")] = None,
    data: Annotated[_Text, typer.Option(help="The images, as --accuracy.")] = None,
    as_json: options.Json = False,
) -> None:
    """Example:  nasvit-edge explain search.json

    Why this subnet: what each stage takes and brings, and what the next change of each gene would cost and bring.
    """
    from nasvit_edge import records
    from nasvit_edge.flows import explain as flow

    given = flow.Given(accuracy=accuracy, supernet=supernet, data=data)
    found = flow.explain(result, table, note, given)
    if as_json:
        print_json(records.content(found))
        return
    print_table(flow.STAGE_COLUMNS, flow.stage_rows(found), flow.headline(found))
    if found.changes:  # a fine-tuned subnet's space has it alone
        print_table(
            flow.change_columns(found), flow.change_rows(found), "one gene changed, the best trades first"
        )
    for line in flow.remarks(found):
        note(line)


def _pictures(result: ResultFile, html: Path | None, png: Path | None) -> None:
    from nasvit_edge.flows import shown
    from nasvit_edge.report import front

    if html is not None:
        front.write_html(result, html, shown.title(result), shown.remarks(result))
        note(f"wrote {html}")
    if png is not None:
        front.write_png(result, png, shown.title(result))
        note(f"wrote {png}")


def _show(result: ResultFile, out: Path, as_json: bool) -> None:
    from nasvit_edge import records
    from nasvit_edge.flows import shown

    if as_json:
        print_json(records.content(result))
    else:
        columns = [result.quality if name == "accuracy" else name for name in CANDIDATE_COLUMNS]
        print_table(columns, [candidate_row(result.best)], shown.title(result))
        near = shown.around(result)
        if near:
            print_table(columns, [candidate_row(c) for c in near], "beside it on the front")
        sys.stdout.write(shown.plot(result))
    for line in shown.remarks(result):
        note(line)
    for told in (told for told in result.outdated if told.ops):
        note(
            f"{told.share:.1%} of this answer's time, by table {told.table}, rests on {told.ops} ops that are computed another way since"
        )
    note(f"wrote {out}; next: {_export(result, out)}, or {command('explain', out)}")
