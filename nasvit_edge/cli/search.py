"""`nasvit-edge search` and `explain`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasvit_edge.cli.output import (
    TERMINAL,
    note,
    print_json,
    progress,
    show_table,
)
from nasvit_edge.hints import DATA, WEIGHTS, command
from nasvit_edge.requests.explain import Request as ExplainRequest
from nasvit_edge.requests.search import Request
from nasvit_edge.runtimes import RUNTIMES

if TYPE_CHECKING:
    from nasvit_edge.searching.saved import ResultFile


def search(request: Request, as_json: bool) -> None:
    """Example:  nasvit-edge search --latency 20ms --device host --space nasvit

    The most accurate subnet whose predicted latency meets the budget. Writes a result file that
    `export` reads.
    """
    from nasvit_edge.flows import search as flow
    from nasvit_edge.searching.infeasible import InfeasibleError

    try:
        asked = ("nasvit-edge", *sys.argv[1:])
        result = flow.search(request, asked, progress)
    except InfeasibleError as error:
        _show_nearest(error, as_json)
        raise
    _show(result, request.out, as_json)


def _export(result: ResultFile, out: Path) -> str:
    """The command that exports what was found; with what a predictor's search does not know."""
    setting = result.setting
    more: dict[str, str] = {"precision": setting.precision} if setting.precision != "fp32" else {}
    more |= {} if setting.supernet else {"supernet": WEIGHTS}
    more |= {} if setting.calibration else {"calibrate": DATA}
    return command("export", out, format=RUNTIMES[setting.runtime].form, **more)


def _show_nearest(error: Any, as_json: bool) -> None:
    """What an impossible request came nearest to."""
    if as_json:
        print_json(error.report)
    else:
        note(f"nearest: {error.report.nearest.config.line()}")


def explain(request: ExplainRequest, as_json: bool) -> None:
    """Example:  nasvit-edge explain search.json

    Why this subnet: what each stage takes and brings, and what the next change of each gene would cost and bring.
    """
    from nasvit_edge import records
    from nasvit_edge.flows import explain as flow
    from nasvit_edge.report import explain_text as text

    explained = flow.explain(request, TERMINAL)
    if as_json:
        print_json(records.content(explained))
        return
    show_table(text.stages(explained), text.headline(explained))
    if explained.changes:  # a fine-tuned subnet's space has it alone
        show_table(text.changes(explained), text.changes_headline(explained))
    for line in text.remarks(explained):
        note(line)


def _show(result: ResultFile, out: Path, as_json: bool) -> None:
    from nasvit_edge import records
    from nasvit_edge.report import search_text as text

    if as_json:
        print_json(records.content(result))
    else:
        show_table(text.candidates([result.best], result.quality, result.slower()), text.title(result))
        if result.mixed is not None:
            show_table(text.precisions(result), "a precision a stage")
        near = text.around(result)
        if near:
            show_table(text.candidates(near, result.quality, result.slower()), text.beside(result))
        sys.stdout.write(text.plot(result))
    for line in text.remarks(result):
        note(line)
    for outdated in (outdated for outdated in result.outdated if outdated.ops):
        note(
            f"{outdated.share:.1%} of this answer's time, by table {outdated.table}, rests on {outdated.ops} ops that are computed another way since"
        )
    note(f"wrote {out}; next: {_export(result, out)}, or {command('explain', out)}")
