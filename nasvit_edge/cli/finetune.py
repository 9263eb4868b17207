"""`nasvit-edge finetune`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nasvit_edge.cli.output import note, print_json, print_table, progress
from nasvit_edge.hints import command
from nasvit_edge.requests.finetune import Request

if TYPE_CHECKING:
    from nasvit_edge.flows.finetune import FinetuneReport


def finetune(request: Request, as_json: bool) -> None:
    """Example:  nasvit-edge finetune search.json --data photos --epochs 5 --out runs/tuned

    Train one searched subnet, or an explicit one (--space S --supernet W --config FILE.json), on: also on other
    classes, which gives it a new classifier. Writes what every other command takes: OUT/result.json (from a result
    file), or OUT/space.toml, OUT/supernet.safetensors and OUT/config.json.
    """
    from nasvit_edge.flows import finetune as flow

    with progress("fine-tuning") as show:
        report = flow.finetune(request, listener=show)
    if report is None:  # under torchrun the first process tells for all
        return
    if as_json:
        print_json(report)
        return
    print_table(["about", "before", "after"], _rows(report))
    note(f"measured on {report.validation}, which was not trained on")
    note(f"wrote {report.supernet}; next: {_next(report, request.quantise)}")


def _rows(report: FinetuneReport) -> list[list[str]]:
    names = {"fp32": "validation accuracy", "int8": "in 8-bit arithmetic, as training rounds"}
    return [[names[key], f"{report.before[key]:.2%}", f"{report.after[key]:.2%}"] for key in report.before]


def _next(report: FinetuneReport, quantise: str) -> str:
    """The command that ships it."""
    if report.result is not None:
        return command("export", report.result, precision=quantise)
    what = {key: getattr(report, key) for key in ("space", "supernet", "config")}
    return command("export", **what, calibrate=report.data, precision=quantise)
