"""`nasvit-edge adopt`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nasvit_edge.cli.output import note, print_json, print_table, progress
from nasvit_edge.hints import command
from nasvit_edge.requests.adopt import Request
from nasvit_edge.trusting import TRUSTED
from nasvit_edge.units import show_bytes, show_count

if TYPE_CHECKING:
    from nasvit_edge.flows.adopt_fixed import AdoptReport


def adopt(request: Request, as_json: bool) -> None:
    """Example:  nasvit-edge adopt efficientnet-lite0 --data photos --out runs/mine --minutes 20

    Make a pretrained network elastic on your photographs: it becomes the largest subnet of a space of its own, which
    profile, search and export take. Writes OUT/space.toml, OUT/supernet.safetensors and OUT/network.json; --resume goes on.
    With --fixed: any network of timm, or of your own function, as it is, for profile, export, verify and benchmark.
    """
    if request.fixed:
        _adopt_fixed(request, as_json)
        return
    from nasvit_edge.flows import adopt as flow

    with progress("adopting") as show:
        report = flow.adopt(request, listener=show)
    if as_json:
        print_json(report)
        return
    rows = [[name, f"{value:.2%}"] for name, value in report.accuracy.items()]
    print_table(["subnet", "validation accuracy"], rows)
    space, weights = request.out / "space.toml", request.out / "supernet.safetensors"
    note(f"wrote {weights}; space: {space}")
    note(f"next: {command('profile', space=space, device='host')}")
    note(
        f"then: {command('search', space=space, supernet=weights, data=request.photographs, minutes=5, latency='5ms')}"
    )


def _adopt_fixed(request: Request, as_json: bool) -> None:
    from nasvit_edge.flows.adopt_fixed import adopt_fixed

    with progress("adopting") as show:
        report = adopt_fixed(request, listener=show)
    if as_json:
        print_json(report)
        return
    print_table(["", "value"], _rows(report))
    note(f"wrote {report.supernet}; next: {_next(report)}")
    if report.trust_code:
        note(
            f"{report.network} is your own code: commands that run it take --trust-code {report.network} in front, as this one; "
            f"{TRUSTED}={report.network} in the environment says the same"
        )


def _next(report: AdoptReport) -> str:
    """The command that ships it."""
    what = {"space": report.space, "supernet": report.supernet, "config": report.config}
    trusting = ["--trust-code", report.network] if report.trust_code else []
    return command(*trusting, "export", **what, out=f"{report.name}.onnx")


def _rows(report: AdoptReport) -> list[list[str]]:
    prepared, weights = report.preparation, report.weights
    kept = f"{prepared.filter} to {prepared.resize}, the middle {report.size}"
    numbers = " ".join(f"{v:g}" for v in prepared.mean), " ".join(f"{v:g}" for v in prepared.std)
    return [
        ["network", report.network],
        ["space", report.name],
        ["images", f"{report.size} x {report.size}: {kept}; mean {numbers[0]}, std {numbers[1]}"],
        ["classes", str(report.classes)],
        ["MACs", show_count(report.macs)],
        ["parameters", show_count(report.parameters)],
        ["size as ONNX", show_bytes(report.file_bytes)],
        ["weights", str(weights.get("warning", weights.get("kind")))],
        *[
            [f"licence of {what}", f"{said['licence']} (stated by {said['stated_by']})"]
            for what, said in weights["licences"].items()
        ],
    ]
