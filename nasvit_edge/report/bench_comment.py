"""A benchmark report as a comment on a pull request: the verdict, a line an artifact, the document's tables, and how to measure again."""

from __future__ import annotations

import re
from collections.abc import Sequence

from nasvit_edge.benchmark.budgets import Outcome
from nasvit_edge.benchmark.report import FAIL, PASS, BenchmarkReport
from nasvit_edge.benchmark.verdicts import VERDICTS
from nasvit_edge.benchmark.verdicts import JudgedMetric as Judged
from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.report import bench
from nasvit_edge.report.figures import ACCURACIES, change_text, one
from nasvit_edge.report.labels import Group, grouped
from nasvit_edge.report.markdown import fenced, markdown
from nasvit_edge.report.model import (
    Cell,
    Cells,
    Column,
    Section,
    Table,
    figure,
    mark,
    name,
    own,
    plain,
    table,
    text,
)
from nasvit_edge.report.reproduce import commands

MARKER = "<!-- nasvit-edge bench -->"
MOST = 65_536  # characters that a comment on GitHub may have; bytes are counted, which are more
_BESIDE = {"latency_p90": "p90", "size": "size", "memory": "memory", **ACCURACIES, "fallback_ops": "fallback"}


def comment(report: BenchmarkReport, key: str = "") -> str:
    """The comment; its first line is `marker(key)`, by which a later run finds it.

    Raises:
        NasvitEdgeError: a key that an HTML comment cannot hold.
    """
    document = bench.document(report)
    sections = (Section("", [_overview(report)]), *document.sections)
    top = f"{marker(key)}\n### {_sign(report)} {report.headline}\n\n"
    return markdown(
        document._replace(sections=sections), top, MOST, fenced("How to reproduce", commands(report))
    )


def marker(key: str = "") -> str:
    """What tells the comment from others, and from those with other keys; not seen."""
    if not re.fullmatch(r"[\w./ -]{0,100}", key, re.ASCII):
        raise NasvitEdgeError(
            f"key {plain(key, 60)!r} of a comment is not made of letters, digits and . _ / - (100 at most)"
        )
    return MARKER if not key else MARKER.replace("bench", f"bench: {key}")


def _sign(report: BenchmarkReport) -> str:
    if report.exit_code != PASS:
        return "❌" if report.exit_code == FAIL else "⚠️"
    return "🟡" if report.counts()["inconclusive"] else "✅"


def _overview(report: BenchmarkReport) -> Table:
    """A line an artifact; the runtime where there are several."""
    groups = grouped(report)
    several = len({group.artifact.runtime for group in groups}) > 1
    return table(
        groups,
        Column("artifact", lambda g: name(g.artifact.name)),
        Column("device", lambda g: name(g.result.device, 40)),
        Column("runtime", lambda g: text(g.artifact.runtime if several else "", 40)),
        Column("precision", lambda g: text(g.artifact.precision, 20)),
        Column("base p50", lambda g: _p50(g.cell("latency_p50"), base=True)),
        Column("p50", lambda g: _p50(g.cell("latency_p50"))),
        Column("change", lambda g: figure(change_text(p50) if (p50 := g.cell("latency_p50")) else "")),
        Column("verdict", lambda g: _verdict(g) if report.compares else own("")),
        Column("budget", lambda g: _kept(g.outcomes) if report.outcomes else own("")),
        *(_beside(metric) for metric in _BESIDE),
        rank=_urgency,
        note=bench.rule(report),
    )


def _p50(cell: Judged | None, *, base: bool = False) -> Cell:
    value = cell and (cell.base if base else cell.value)
    return figure(one(cell.metric, value.value) if cell and value else "")


def _beside(metric: str) -> Column[Group]:
    return Column(_BESIDE[metric], lambda group: _short(group.cell(metric)))


def _verdict(group: Group) -> Cell:
    """Of the median latency; but a regression or an invalid figure of another metric that gates comes first."""
    gating = {cell.metric.name: cell.verdict for cell in group.cells if cell.gates}
    p50 = group.cell("latency_p50")
    for verdict in ("regression", "invalid"):
        if metrics := [_BESIDE.get(name, name) for name, result in gating.items() if result == verdict]:
            whole = verdict == "invalid" or metrics == ["latency_p50"]
            names = "" if whole else f"({', '.join(n.removeprefix('latency_') for n in metrics)})"
            return mark(verdict, True, after=names)
    return own("no baseline") if p50 is None or p50.verdict is None else bench.verdict(p50)


def _short(cell: Judged | None) -> Cell:
    """A figure's change with the sign of its verdict, unless it is none; without a base the figure."""
    if cell is None:
        return own("")
    if cell.change is None:
        return figure(one(cell.metric, cell.value.value))
    if cell.base is not None and cell.value.value == cell.base.value:
        return own("same")
    return figure(change_text(cell, interval=False), cell.verdict or "")


def _kept(outcomes: Sequence[Outcome]) -> Cells:
    broken = [o for o in outcomes if o.status != "within"]
    if broken:
        return tuple(bench.status(o, _broken(o)) for o in broken)
    return mark("within", True, "") if outcomes else own("none")


def _broken(outcome: Outcome) -> str:
    status = "" if outcome.status == "exceeded" else f" {outcome.status}"
    return f"{outcome.budget.metric.removeprefix('latency_')}{status}"


def _urgency(group: Group) -> int:
    """Of a regression, then of a broken budget, then of the other verdicts."""
    broken = any(outcome.fails or outcome.unjudged for outcome in group.outcomes)
    worst = min((bench.rank(cell) for cell in group.cells if cell.gates), default=len(VERDICTS))
    return min(2 * worst, 1) if broken else 2 * worst
