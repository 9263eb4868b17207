"""`nasvit-edge tables` and `nasvit-edge predict`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from nasvit_edge.cli.adapter import adapted
from nasvit_edge.cli.output import TERMINAL, note, print_json, print_table, progress
from nasvit_edge.requests.predict import Request as PredictRequest
from nasvit_edge.requests.tables import Diff, Import, Refit, TableShown, Validate

if TYPE_CHECKING:
    from nasvit_edge.flows.tables import TableRow
    from nasvit_edge.latency.compare import Ratios
    from nasvit_edge.latency.file import Validation
    from nasvit_edge.latency.setting import TableSetting

tables = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Example:  nasvit-edge tables list\n\nLatency tables: list, show, compare, validate, refit, import.",
)


def list_tables(as_json: bool) -> None:
    """Example:  nasvit-edge tables list

    Every table in ./latency_tables and among the shipped ones.
    """
    from nasvit_edge.flows.tables import TableRow, listed
    from nasvit_edge.records import content

    rows = listed()
    if as_json:
        print_json(content(rows))
        return
    columns = ["table", "space", "ops", "provenance", "machine", "measured on", "mean error"]
    print_table(columns, [_row(row) for row in rows if isinstance(row, TableRow)])
    for row in rows:
        if not isinstance(row, TableRow):
            note(row.error)


def _row(row: TableRow) -> list[str]:
    error = "-" if row.mape is None else f"{row.mape:.1%}"
    machine, date = row.machine or "unknown", str(row.date)[:10]
    return [Path(row.path).stem, row.space, str(row.ops), str(row.provenance), machine, date, error]


def show(request: TableShown, as_json: bool) -> None:
    """Example:  nasvit-edge tables show host

    What a table says of itself: machine, versions, protocol, composition, validation, and what speaks
    against using it here.
    """
    from nasvit_edge.flows import tables as flow

    table = flow.found(request.table, request.space)
    fields = flow.shown(table)
    if as_json:
        print_json(fields)
        return
    rows = [[key, _text(value)] for key, value in fields.items() if key not in ("schema", "kind", "concerns")]
    print_table(["field", "value"], rows, f"{fields['path']}: {table.setting.line()}")
    for text in fields["concerns"]:
        note(f"note: {text}")


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{key}: {item}" for key, item in value.items())
    return str(value)


def diff(request: Diff, as_json: bool) -> None:
    """Example:  nasvit-edge tables diff old.json new.json

    Ratios second / first of the ops in both, by kind of op; whether they rank alike, and whether one
    factor explains the difference.
    """
    from nasvit_edge.flows import tables as flow
    from nasvit_edge.latency.compare import compare

    pair = [flow.found(name, request.space) for name in (request.first, request.second)]
    comparison = compare(*pair)
    if as_json:
        print_json(comparison)
        return
    rows = [_ratios(kind, part) for kind, part in comparison.kinds.items()]
    columns = ["ops of kind", "ops", "median ratio", "10 % .. 90 %", "Kendall tau"]
    title = f"{pair[1].setting.line()}, over {pair[0].setting.line()}"
    print_table(columns, [*rows, _ratios("all", comparison)], title)
    verdict = (
        "one factor explains the difference" if comparison.one_factor else "no single factor explains it"
    )
    note(f"{verdict}: {comparison.explained:.0%} of the ops are within 5 % of {comparison.ratio:.3f}")
    note(f"median difference of an op: {comparison.difference:.1%}")
    for line in comparison.differs:
        note(f"differs: {line}")
    if comparison.only_first or comparison.only_second:
        note(f"ops in the first only: {comparison.only_first}, in the second only: {comparison.only_second}")


def _ratios(kind: str, part: Ratios) -> list[str]:
    tau = "-" if part.tau is None else f"{part.tau:.3f}"
    return [kind, str(part.ops), f"{part.ratio:.3f}", f"{part.low:.3f} .. {part.high:.3f}", tau]


def validate(request: Validate, as_json: bool) -> None:
    """Example:  nasvit-edge tables validate host --subnets 40

    Measure whole subnets, each in two fresh processes, compare with the table's predictions, and store
    the report in the table.
    """
    from nasvit_edge.flows import tables as flow
    from nasvit_edge.records import content

    with progress("validating") as bar:
        validation = flow.validate(request, bar)
    if as_json:
        print_json(content(validation))
    else:
        show_validation(validation, flow.found(request.table, request.space).setting)


def show_validation(validation: Validation, setting: TableSetting) -> None:
    """The report as a table."""
    rows = [
        ["mean error (MAPE)", f"{validation.mape:.2%}"],
        ["machine's own repeat noise", f"{validation.repeat_mape:.2%}"],
        ["bias", f"{validation.bias:+.2%}"],
        ["largest error", f"{validation.largest:.2%}"],
        ["within 5 % / 10 %", f"{validation.within_5:.0%} / {validation.within_10:.0%}"],
        ["Kendall tau, all / narrow bands", f"{validation.tau:.3f} / {validation.tau_bands:.3f}"],
    ]
    if validation.inside_interval is not None:
        rows.append(["inside the 90 % interval", f"{validation.inside_interval:.0%}"])
    title = f"{validation.count} whole subnets, each measured twice: {setting.line()}"
    print_table(["of predictions", "value"], rows, title)


def refit(request: Refit, as_json: bool) -> None:
    """Example:  nasvit-edge tables refit latency_tables/*.json

    Fit what composes a table's ops anew on the whole subnets it holds, after an update of nasvit-edge.
    Nothing is measured; a stored validation is compared with the new predictions.
    """
    from nasvit_edge.flows import tables as flow

    changes = flow.refit([flow.found(name, None) for name in request.table])
    if as_json:
        print_json(changes)
        return
    rows = [[row.table, _before_after(row.errors), _before_after(row.mapes)] for row in changes]
    print_table(["table", "half-width of intervals", "mean error of its validation"], rows)


def _before_after(values: Sequence[float | None]) -> str:
    return " -> ".join("-" if value is None else f"{value:.2%}" for value in values)


def import_table(request: Import, as_json: bool) -> None:
    """Example:  nasvit-edge tables import nn-meter pixel1_lut.json --device pixel-1

    Convert a published block table, and say what it lacks and what was approximated.
    """
    from nasvit_edge.flows.tables import import_table as convert
    from nasvit_edge.flows.tables import searching

    report = convert(request)
    if as_json:
        print_json(report)
        return
    missing = {name: len(keys) for name, keys in report.missing.items()}
    note(f"{report.entries} ops of {request.space} are in the table; missing: {missing or 'none'}")
    for line in report.approximated:
        note(f"approximated: {line}")
    if report.doubt:
        note(f"WARNING: {report.doubt}")
    note(f"wrote {report.path}; next: {searching(Path(report.path), request.space)}")


def predict(request: PredictRequest, as_json: bool) -> None:
    """Example:  nasvit-edge predict search.json --device host

    The latency of a subnet by a latency table, with its 90 % interval and the share that was measured.
    """
    from nasvit_edge.flows.tables import predict as flow
    from nasvit_edge.units import show_ms

    prediction = flow(request, TERMINAL)
    if as_json:
        print_json(prediction)
        return
    interval = (
        "-"
        if prediction.low_ms is None or prediction.high_ms is None
        else f"{show_ms(prediction.low_ms)} .. {show_ms(prediction.high_ms)}"
    )
    row = [show_ms(prediction.ms), interval, f"{prediction.coverage:.0%}", prediction.table]
    columns = ["predicted", "90 % interval", "measured share", "table"]
    if prediction.today_ms is not None:
        columns.insert(1, "at today's speed")
        row.insert(1, show_ms(prediction.today_ms))
    print_table(columns, [row], prediction.setting.line())


tables.command("list", short_help="Every table that is found.")(adapted(list_tables))
tables.command("show", short_help="What a table says of itself.")(adapted(show))
tables.command("diff", short_help="Two tables beside each other.")(adapted(diff))
tables.command("validate", short_help="Predictions against whole subnets, measured.")(adapted(validate))
tables.command("refit", short_help="Fit the composition anew, without measuring.")(adapted(refit))
tables.command("import", short_help="Convert a published table.")(adapted(import_table))
