"""`nasvit-edge train`."""

from __future__ import annotations

import os

from nasvit_edge.cli.output import note, print_json, print_table, progress
from nasvit_edge.requests.train import Request


def train(request: Request, as_json: bool) -> None:
    """Example:  nasvit-edge train --space nano --data fashion-mnist --out runs/nano

    Train a supernet by a recipe. Ctrl-C and SIGTERM keep a checkpoint; --resume continues bit for bit.
    Writes OUT/supernet.safetensors and OUT/space.toml. Under torchrun, on several processes.
    """
    from nasvit_edge.flows import train as flow

    if request.dry_run:
        _show_estimate(request, as_json)
        return
    with progress("training") as show:
        report = flow.train(request, listener=show)
    if report is None:  # under torchrun the first process tells for all
        return
    if as_json:
        print_json(report)
        return
    rows = [[name, f"{value:.2%}"] for name, value in report.accuracy.items()]
    print_table(["subnet", "validation accuracy"], rows)
    note(f"wrote {request.out / 'supernet.safetensors'}; space: {request.out / 'space.toml'}")


def _show_estimate(request: Request, as_json: bool) -> None:
    from nasvit_edge.flows.train import dry_run, run_of

    asked = run_of(request)
    if os.environ.get("RANK", "0") != "0":  # under torchrun the first process tells for all
        return
    with progress("looking at the data") as show:
        report = dry_run(asked, show)
    for line in report.masks:
        note(line)
    if as_json:
        print_json(report)
        return
    print_table(["", "value"], [[name, value] for name, value in report.shown])
