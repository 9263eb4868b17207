"""`nasvit-edge profile`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nasvit_edge.cli.output import TERMINAL, note, print_json, print_table, progress, progresses
from nasvit_edge.cli.tables import show_validation
from nasvit_edge.requests.profile import Request

if TYPE_CHECKING:
    from nasvit_edge.latency import LatencyTable


def profile(request: Request, as_json: bool) -> None:
    """Example:  nasvit-edge profile --device jetson --space nano

    Time every op of a space on a device and write a latency table. Interrupted, the same command
    continues where it was.
    """
    from nasvit_edge.flows import profile as flow

    if request.offline is not None or request.results is not None:
        _offline(request, as_json)
        return
    with progresses() as started:
        by_device, failed = flow.profile_devices(request, started)
    all_tables = [table for tables in by_device.values() for table in tables]
    _show(all_tables, as_json)
    if failed:
        raise next(iter(failed.values()))


def _offline(request: Request, as_json: bool) -> None:
    from nasvit_edge.flows import profile as flow

    if request.offline is not None:
        with progress("bundle") as show:
            text = flow.bundle(request, request.offline, show)
        note(text)
    if request.results is not None:
        _show([flow.finished(request, request.results, TERMINAL)], as_json)


def _show(tables: list[LatencyTable], as_json: bool) -> None:
    if as_json:
        print_json([_summary(table) for table in tables])
        return
    for table in tables:
        _print(table)


def _summary(table: LatencyTable) -> dict[str, object]:
    from nasvit_edge.records import content

    keys = ("device", "runtime", "threads", "precision", "composition", "sustained", "validation")
    fields = content(table.file)
    return {"table": str(table.path), "ops": len(table.ops_ms)} | {key: fields.get(key) for key in keys}


def _print(table: LatencyTable) -> None:
    from nasvit_edge.units import show_ms

    file = table.file
    rows = []
    for end, config in (("smallest", table.space.smallest()), ("largest", table.space.largest())):
        prediction = table.predict(config)
        interval = (
            "-"
            if prediction.low_ms is None or prediction.high_ms is None
            else f"{show_ms(prediction.low_ms)} .. {show_ms(prediction.high_ms)}"
        )
        rows.append([end, show_ms(prediction.ms), interval])
    print_table(
        ["subnet", "predicted", "90 % interval"],
        rows,
        f"{len(table.ops_ms)} ops on {table.setting.line()}",
    )
    drift, warm = file.canaries, file.sustained
    if drift is not None:
        note(
            f"canaries: at most {drift.largest:.1%} off; {drift.set_aside} of {drift.measured} measurements set aside"
        )
    if warm is not None:
        note(
            f"sustained: {show_ms(warm.minute1_ms)} in the first minute, {show_ms(warm.steady_ms)} in the last quarter of "
            f"{warm.seconds:g} s (factor {warm.factor:.3f}); search --steady keeps budgets when it is warm"
        )
    if file.validation is not None:
        show_validation(file.validation, table.setting)
    note(f"table {table.path}")
