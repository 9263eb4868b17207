"""`nasvit-edge export` and `nasvit-edge verify`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nasvit_edge.cli.output import TERMINAL, note, print_json, print_table, show_table, waiting
from nasvit_edge.requests.export import Request
from nasvit_edge.requests.verify import Request as VerifyRequest

if TYPE_CHECKING:
    from nasvit_edge.export.sidecar import Scenes
    from nasvit_edge.flows.export import ExportReport


def export(request: Request, as_json: bool) -> None:
    """Example:  nasvit-edge export search.json --format onnx --out model.onnx

    Write the searched subnet, or an explicit one (--space S --supernet W --config FILE.json), and check
    the file against the elastic supernet.
    """
    from nasvit_edge.flows import export as flow

    flow.checked_batch(request)
    with waiting(f"exporting to {request.format_name}"):
        report = flow.export(request, listener=TERMINAL)
    if as_json:
        print_json(report)
        return
    _print(report)
    _note_arithmetic(report)
    if report.kept_in_float:
        note(f"kept in floating point: {', '.join(report.kept_in_float)}")
    for failure in report.failures:
        note(f"KEPT BY --force, FAILS ITS CHECK: {failure}")
    _note_doubts(report)
    if report.bundle:
        note(f"bundle: {report.bundle}")
    if report.cached:
        note("from the cache; --no-cache makes it anew")


def verify(request: VerifyRequest, as_json: bool) -> None:
    """Example:  nasvit-edge verify model.onnx

    Repeat the numerical check of an exported file against the elastic supernet.
    """
    from nasvit_edge.flows import export as flow

    with waiting("verifying"):
        report = flow.verify(request)
    if as_json:
        print_json(report)
    else:
        _print(report)
        note(
            f"checked on {report.inputs} inputs, {report.real_images} of them real images; reference: {report.reference}"
        )
        _note_arithmetic(report)
        if report.scenes:
            print_scenes(report.scenes)
        _note_reproduction(report)
        for failure in report.failures:
            note(f"FAILS: {failure}")
        _note_doubts(report)
    if not report.passed:
        raise SystemExit(1)


def _note_arithmetic(report: ExportReport) -> None:
    if report.arithmetic is not None:
        from nasvit_edge.export import arithmetic

        note(arithmetic.line(report.arithmetic, report.precision))


def _note_doubts(report: ExportReport) -> None:
    for doubt in report.doubts:
        if doubt not in report.failures:
            note(f"passes, but {doubt}")


def _note_reproduction(report: ExportReport) -> None:
    """Of a file from another processor or other versions, how near it is to what it gave there."""
    reproduction = report.reproduction
    if reproduction is None or reproduction.same_machine:
        return
    near = [
        None if reproduction.snr_db is None else f"{min(reproduction.snr_db, 999):.1f} dB to its logits then",
        None if reproduction.agreement is None else f"the class it had then on {reproduction.agreement:.2%}",
        None
        if reproduction.plain_change is None
        else f"without rounding {reproduction.plain_change:.1e} off",
    ]
    note(f"exported on another processor, or by other versions: {', '.join(filter(None, near))}")


def print_scenes(scenes: Scenes) -> None:
    """A segmenter's mean IoU, pixel accuracy and classes' IoU, beside those of its supernet where they are known."""
    exact = scenes.reference
    columns = ["on " + scenes.data, "file", *([] if exact is None else ["PyTorch"])]
    sides = [scenes] if exact is None else [scenes, exact]
    rows = [[name, *(_share(getattr(side, key)) for side in sides)] for name, key in _FIGURES.items()]
    rows += [[f"IoU {name}", *(_share(side.ious[name]) for side in sides)] for name in scenes.ious]
    print_table(columns, rows)
    for line in scenes.masks:
        note(line)


_FIGURES = {"mean IoU": "mean_iou", "pixel accuracy": "pixel_accuracy"}


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"


def _print(report: ExportReport) -> None:
    from nasvit_edge.export import arithmetic
    from nasvit_edge.report.model import Column, figure, name, own, table

    figures: list[Column[ExportReport]] = (  # of a segmenter, else of a classifier
        [
            Column("output", lambda r: own(r.output)),
            Column("error", lambda r: figure(_told(r.error, ".1e"))),
            Column("signal/noise", lambda r: figure(_told(r.snr_db, ".1f", " dB"))),
            Column("same labels", lambda r: figure(_told(r.pixels, ".3%"))),
            Column(
                "mean IoU points", lambda r: figure(_points(r.scenes.mean_iou_drop if r.scenes else None))
            ),
        ]
        if report.output
        else [
            Column("error", lambda r: figure(_told(r.error, ".1e"))),
            Column("signal/noise", lambda r: figure(_told(r.snr_db, ".1f", " dB"))),
            Column("same top-1", lambda r: figure(_told(r.agreement, ".2%"))),
            Column("top-1 points", lambda r: figure(_points(r.top1_drop, r.top1_drop_interval))),
        ]
    )
    columns: list[Column[ExportReport]] = [
        Column("artifact", lambda r: name(r.artifact, 400)),
        Column("precision", lambda r: own(r.precision)),
        *figures,
        Column("in int8", lambda r: figure(arithmetic.shown(r.arithmetic, r.precision))),
        Column("check", lambda r: own("passed" if r.passed else "FAILED")),
        Column("size", lambda r: figure(f"{r.bytes / 1e6:.2f} MB")),
    ]
    show_table(table([report], *columns))


def _told(value: object, form: str, unit: str = "") -> str:
    return f"{value:{form}}{unit}" if isinstance(value, int | float) else "-"


def _points(drop: float | None, interval: tuple[float, float] | None = None) -> str:
    """How far an accuracy rose, in points, with its interval where it has one."""
    if drop is None:
        return "-"
    between = "" if interval is None else f" ({-interval[1] * 100:+.2f} to {-interval[0] * 100:+.2f})"
    return f"{-drop * 100:+.2f}{between}"
