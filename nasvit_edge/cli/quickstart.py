"""`nasvit-edge quickstart`."""

from __future__ import annotations

from nasvit_edge.cli.output import note, print_json, progress, show_table
from nasvit_edge.requests.quickstart import Request


def quickstart(request: Request, as_json: bool) -> None:
    """Example:  nasvit-edge quickstart

    Profile this machine, search the bundled supernet for it, export ONNX and TFLite, verify both, and
    measure them: predicted against measured, in a short report. A few minutes.
    """
    from nasvit_edge.flows import quickstart as flow
    from nasvit_edge.report import quickstart_text as text

    with progress("quickstart") as show:
        report = flow.quickstart(request, listener=show)
    if as_json:
        print_json(report)
        return
    show_table(text.artifacts(report), text.title(report))
    note(f"wrote {request.out / 'report.md'} and everything beside it")
