"""`nasvit-edge adopt`."""

from __future__ import annotations

from nasvit_edge.cli.output import note, print_json, print_table, progress
from nasvit_edge.hints import command
from nasvit_edge.requests.adopt import Request


def adopt(request: Request, as_json: bool) -> None:
    """Example:  nasvit-edge adopt efficientnet-lite0 --data photos --out runs/mine --minutes 20

    Make a pretrained network elastic on your photographs: it becomes the largest subnet of a space of its own, which
    profile, search and export take. Writes OUT/space.toml, OUT/supernet.safetensors and OUT/network.json; --resume goes on.
    """
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
    note(f"then: {command('search', space=space, supernet=weights, data=request.data, latency='5ms')}")
