"""`nasvit-edge doctor`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nasvit_edge.cli.output import note, note_unchecked, print_json, print_table, waiting
from nasvit_edge.requests.doctor import Request

if TYPE_CHECKING:
    from nasvit_edge.export.placement import Placement
    from nasvit_edge.flows.doctor import Environment, Examined


def doctor(request: Request, as_json: bool) -> None:
    """Example:  nasvit-edge doctor model.tflite

    What of an exported model the target's delegates would not take, layer by layer; without a model, what is
    installed and which devices and formats there are.
    """
    from nasvit_edge.flows import doctor as flow

    artifact = request.artifact
    with waiting("looking"):
        report = flow.examine(artifact) if artifact else flow.environment()
    if artifact and isinstance(report, flow.Examined):
        note_unchecked(artifact, report.checked)
    if as_json:
        print_json(report)
    elif isinstance(report, flow.Examined):
        _print_examined(report)
    else:
        _print_environment(report)


def _print_environment(report: Environment) -> None:
    rows = [[row.extra, row.package, row.state] for row in report.packages]
    print_table(["extra", "package", "version"], rows)
    note(f"python {report.python}, {report.cpu}, {report.cores} cores")
    note(f"devices: {', '.join(report.devices)}; formats: {', '.join(report.formats)}")
    note(f"cache: {report.cache}")


def _print_examined(report: Examined) -> None:
    _print_placements(report.targets)
    if report.arithmetic is not None:
        from nasvit_edge.export import arithmetic

        note(arithmetic.line(report.arithmetic, report.precision))
    for text in report.slow:
        note(f"note: {text}")


def _print_placements(targets: Sequence[Placement]) -> None:
    print_table(["target", "ops", "outside", "note"], [_row(target) for target in targets])
    outside = [(t.target, row) for t in targets for row in t.outside]
    if outside:
        rows = [[row.layer, row.op, row.why, target] for target, row in outside]
        print_table(["layer", "op", "why", "target"], rows)


def _row(target: Placement) -> list[str]:
    return [target.target, str(target.ops), str(len(target.outside)), target.note]
