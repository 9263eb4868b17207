"""A benchmark report as a comment on a pull request: the verdict, one table, and the rest behind folds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from nasvit_edge.benchmark.budgets import Outcome
from nasvit_edge.benchmark.metrics import METRICS
from nasvit_edge.benchmark.report import FAIL, PASS, Report
from nasvit_edge.benchmark.result import Result
from nasvit_edge.benchmark.verdicts import VERDICTS, Cell
from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.report.figures import (
    ACCURACIES,
    change_text,
    limit_text,
    one,
    outcome_text,
    percent,
    value_text,
)
from nasvit_edge.report.labels import Group, grouped, plain
from nasvit_edge.report.markdown_text import Section, code, firm, fitted, prose, table
from nasvit_edge.report.reproduce import commands
from nasvit_edge.units import show_bytes, show_count, show_ms

MARKER = "<!-- nasvit-edge bench -->"
MOST = 65_536  # characters that a comment on GitHub may have; bytes are counted, which are more
_SIGNS = {"regression": "🔴", "invalid": "🟠", "inconclusive": "🟡", "improvement": "🟢", "equivalent": "⚪"}
_STATUS = {"within": "✅", "exceeded": "❌", "too close": "❌", "unknown": "❔"}
_BESIDE = {
    "latency_p90": "p90",
    "size": "size",
    "memory": "memory",
    **ACCURACIES,
    "fallback_ops": "fallback",
}


def markdown(report: Report, key: str = "") -> str:
    """The comment; its first line is `marker(key)`, by which a later run finds it.

    Raises:
        NasvitEdgeError: a key that an HTML comment cannot hold.
    """
    groups = grouped(report)
    top = f"{marker(key)}\n### {_sign(report)} {report.headline}\n\n"
    folded = [section for section in _folded(report, groups) if section.lines]
    sections = [_overview(report, groups), *folded, _reproduce(report)]
    return top + fitted(sections, MOST - len(top.encode()))


def marker(key: str = "") -> str:
    """What tells the comment from others, and from those with other keys; not seen."""
    if not re.fullmatch(r"[\w./ -]{0,100}", key, re.ASCII):
        raise NasvitEdgeError(
            f"key {plain(key, 60)!r} of a comment is not made of letters, digits and . _ / - (100 at most)"
        )
    return MARKER if not key else MARKER.replace("bench", f"bench: {key}")


def _sign(report: Report) -> str:
    if report.exit_code != PASS:
        return "❌" if report.exit_code == FAIL else "⚠️"
    return "🟡" if report.counts()["inconclusive"] else "✅"


def _rule(report: Report) -> str:
    """What the figures mean, in a sentence or two."""
    if not report.compares:
        return "Nothing was measured beside a baseline, so there are no verdicts: give `nasvit-edge benchmark --baseline`."
    level, alpha, least = 1 - 2 * report.rule.alpha, report.rule.alpha, report.rule.min_effect
    return (
        f"Changes are of the candidate over its baseline, measured in turns, with {100 * level:.4g} % intervals over rounds. "
        f"A change counts from {100 * least:.3g} %; of all that is called a regression, at most {100 * alpha:.3g} % are false alarms on average."
    )


def _overview(report: Report, groups: Sequence[Group]) -> Section:
    """A line an artifact."""
    beside = [name for name in _BESIDE if any(group.cell(name) for group in groups)]
    columns = ["artifact", "device", "precision"]
    columns += [">base p50", ">p50", ">change", "verdict"] if report.compares else [">p50"]
    columns += ["budget", *(f">{_BESIDE[name]}" for name in beside)]
    several = len({group.artifact.runtime for group in groups}) > 1
    lines = [(_urgency(group), _line(report, group, beside, several)) for group in groups]
    return table(columns, lines, tail=["", _rule(report)])


def _line(report: Report, group: Group, beside: Sequence[str], several: bool) -> list[str]:
    """`several`: runtimes, so that the artifact's has to be told."""
    artifact, p50 = group.artifact, group.cell("latency_p50")
    runtime = f" {prose(artifact.runtime, 40)}" if several else ""
    cells = [code(artifact.name), code(group.result.device, 40) + runtime, prose(artifact.precision, 20)]
    if p50 is None:
        cells += ["", "", "", _verdict(group)] if report.compares else [""]
    else:
        base = "" if p50.base is None else firm(one(p50.metric, p50.base.value))
        value = firm(one(p50.metric, p50.value.value))
        cells += [base, value, firm(change_text(p50)), _verdict(group)] if report.compares else [value]
    kept = _kept(group.outcomes) if report.outcomes else ""
    return [*cells, kept, *(_short(group.cell(name)) for name in beside)]


def _verdict(group: Group) -> str:
    """Of the median latency; but a regression or an invalid figure of another metric that gates comes first."""
    gating = {cell.metric.name: cell.verdict for cell in group.cells if cell.gates}
    p50 = group.cell("latency_p50")
    for verdict in ("regression", "invalid"):
        if found := [_BESIDE.get(name, name) for name, own in gating.items() if own == verdict]:
            whole = verdict == "invalid" or found == ["latency_p50"]
            names = "" if whole else f" ({', '.join(n.removeprefix('latency_') for n in found)})"
            return f"{_SIGNS[verdict]}{firm(' ')}**{verdict}**{names}"
    if p50 is None or p50.verdict is None:
        return "no baseline"
    note = "" if p50.gates else " (does not gate)"
    return f"{firm(_signed(p50.verdict))}{note}"


def _signed(verdict: str) -> str:
    return f"{_SIGNS[verdict]} {verdict}"


def _short(cell: Cell | None) -> str:
    """A figure's change with the sign of its verdict, unless it is none; without a base the figure."""
    if cell is None:
        return ""
    if cell.change is None:
        return firm(one(cell.metric, cell.value.value))
    if cell.base is not None and cell.value.value == cell.base.value:
        return "same"
    sign = "" if cell.verdict == "equivalent" else _SIGNS.get(cell.verdict or "", "")
    return firm(f"{change_text(cell, interval=False)} {sign}".strip())


def _kept(outcomes: Sequence[Outcome]) -> str:
    broken = [o for o in outcomes if o.status != "within"]
    if not broken:
        return "✅" if outcomes else "none"
    names = [o.budget.metric.removeprefix("latency_") for o in broken]
    note = {"exceeded": "", "too close": " too close", "unknown": " unknown"}
    told = [f"{_mark(o)} {name}{note[o.status]}" for o, name in zip(broken, names, strict=True)]
    return "<br>".join(map(firm, told))


def _mark(outcome: Outcome) -> str:
    warns = outcome.budget.level == "warn" and outcome.status in ("exceeded", "too close")
    return "⚠️" if warns else _STATUS[outcome.status]


def _urgency(group: Group) -> int:
    """Of a regression, then of a broken budget, then of the other verdicts."""
    broken = any(outcome.fails or outcome.unjudged for outcome in group.outcomes)
    worst = min((_rank(cell) for cell in group.cells if cell.gates), default=len(VERDICTS))
    return min(2 * worst, 1) if broken else 2 * worst


def _rank(cell: Cell) -> int:
    return VERDICTS.index(cell.verdict) if cell.verdict is not None else len(VERDICTS)


def _folded(report: Report, groups: Sequence[Group]) -> list[Section]:
    return [
        _reasons(groups),
        _budgets(report),
        _figures(report, groups),
        _trends(report),
        _noise(report),
        _files(groups),
        _environment(report),
    ]


def _reasons(groups: Sequence[Group]) -> Section:
    """Why cells are invalid or inconclusive; metrics of one reason are told together."""
    lines = []
    for group in groups:
        told: dict[tuple[str, str], list[str]] = {}
        for cell in group.cells:
            if cell.verdict in ("invalid", "inconclusive"):
                told.setdefault((cell.verdict, cell.reason), []).append(cell.metric.name)
        for (verdict, reason), names in told.items():
            own = [firm(_signed(verdict)), ", ".join(names), prose(reason)]
            lines.append((VERDICTS.index(verdict), [*_who(group), *own]))
    title = f"Why invalid or inconclusive ({len(lines)})"
    return table(["artifact", "device", "verdict", "metrics", "why"], lines, title)


def _who(group: Group) -> list[str]:
    return [code(group.artifact.name), code(group.result.device, 40)]


def _budgets(report: Report) -> Section:
    lines = []
    for o in report.outcomes:
        named = [code(o.artifact), code(o.device, 40), o.budget.metric]
        judged = [
            firm(outcome_text(o)),
            firm(limit_text(o.budget)),
            o.budget.level,
            firm(f"{_mark(o)} {o.status}"),
        ]
        lines.append((int(o.status == "within"), [*named, *judged, prose(o.reason) if o.reason else ""]))
    columns = ["artifact", "device", "budget", ">value", ">limit", "level", "status", "why"]
    return table(columns, lines, f"Budgets ({len(lines)})")


def _figures(report: Report, groups: Sequence[Group]) -> Section:
    compared = [">base", ">change", ">chance", ">pairs", "verdict"] if report.compares else []
    lines = []
    for group in groups:
        for cell in group.cells:
            cells = [*_who(group), cell.metric.name, firm(value_text(cell.metric, cell.value))]
            lines.append((_rank(cell), cells + (_compared(cell) if compared else [])))
    columns = ["artifact", "device", "metric", ">value", *compared]
    return table(columns, lines, f"All figures ({len(lines)})")


def _compared(cell: Cell) -> list[str]:
    base = "" if cell.base is None else firm(value_text(cell.metric, cell.base))
    chance = "" if cell.chance is None else f"{cell.chance:.2g}"
    if cell.verdict is None:
        return [base, firm(change_text(cell)), chance, "", ""]
    note = "" if cell.gates else " (does not gate)"
    return [
        base,
        change_text(cell),
        chance,
        str(cell.pairs or ""),
        f"{firm(_signed(cell.verdict))}{note}",
    ]


def _trends(report: Report) -> Section:
    lines = []
    for trend in report.trends:
        metric = METRICS[trend.metric]
        sides = [firm(one(metric, side.value)) for side in (trend.then, trend.now)]
        cells = [
            code(trend.artifact),
            code(trend.device, 40),
            trend.metric,
            *sides,
            firm(percent(trend.change)),
        ]
        lines.append((0, cells))
    title = f"Against the stored baseline ({len(lines)}): other minutes, so no verdict"
    columns = ["artifact", "device", "metric", ">then", ">now", ">change"]
    return table(columns, lines, title)


def _noise(report: Report) -> Section:
    lines = []
    for noise in report.noise:
        finds = ", ".join(
            f"{change:.1%} with {rounds} rounds" for rounds, change in sorted(noise.detects.items())
        )
        spreads = [f"{value:.1%}" for value in (noise.within, noise.between, noise.paired)]
        lines.append((0, [code(noise.artifact), code(noise.device, 40), *spreads, finds]))
    columns = ["artifact", "device", ">within a round", ">between rounds", ">ratio of a pair"]
    columns.append("increase of p50 that is found in 9 of 10")
    return table(columns, lines, "Noise floor: the same file on both sides")


def _files(groups: Sequence[Group]) -> Section:
    lines = []
    for group in groups:
        a, base = group.artifact, group.cells[0].baseline
        predicted = "" if a.predicted_ms is None else show_ms(a.predicted_ms[0])
        cells = [
            code(a.name),
            "" if base is None else code(base.name),
            prose(f"{a.format} {a.precision}", 60),
        ]
        cells += [prose(f"{a.runtime} {a.runtime_version}", 60), show_bytes(a.bytes)]
        cells += ["" if a.macs is None else show_count(a.macs), predicted, code(a.sha256[:12])]
        lines.append((0, cells))
    columns = ["artifact", "baseline", "format", "runtime", ">size", ">MACs", ">predicted", "sha256"]
    return table(columns, lines, f"Files ({len(lines)})")


def _environment(report: Report) -> Section:
    lines = [
        (rank, [code(result.device, 40), what, text])
        for result in report.results
        for rank, (what, text) in enumerate(_facts(result))
    ]
    lines += [(0, ["", "remark", prose(remark)]) for remark in report.remarks]
    return table(["device", "what", "how"], lines, "Environment")


def _facts(result: Result) -> list[tuple[str, str]]:
    """What a run says of itself, the most telling first."""
    run, device, protocol = result.run, result.measurer, result.protocol
    dirty = " with changes that are not committed" if run.git_dirty else ""
    runtimes = sorted({f"{a.runtime} {a.runtime_version}" for a in result.artifacts})
    facts = [
        ("hardware", _listed(device.about)),
        ("conditions", _listed(device.conditions)),
        ("runtimes", code(", ".join(runtimes), 200)),
        ("threads", f"{result.threads}{_cores(protocol.cores)}"),
        ("rounds", f"{result.rounds}, in turns ({prose(protocol.order or 'any order', 20)})"),
        ("commit", f"{code(run.git_sha[:12])}{dirty}" if run.git_sha else ""),
        ("job", _link(run.ci_url)),
        ("measured", f"{code(run.utc, 40)} by nasvit-edge {prose(run.tool_version, 40)}"),
        ("ended early", "" if result.stopped is None else prose(result.stopped)),
    ]
    return [(what, text) for what, text in facts if text]


def _listed(table: dict[str, Any] | None) -> str:
    listed = list((table or {}).items())[:20]
    return ", ".join(f"{prose(key, 30)} {code(value, 80)}" for key, value in listed)


def _cores(cores: Sequence[int] | None) -> str:
    if not cores:
        return ""
    return f" on core{'s' * (len(cores) > 1)} {prose(', '.join(map(str, cores[:64])), 100)}"


def _link(url: str | None) -> str:
    """A link, where the address is one that nothing can hide in; else text."""
    if url is None:
        return ""
    if re.fullmatch(r"https?://[\w./:%?=-]{1,500}", url, re.ASCII):
        return f"[the run's page]({url})"
    return code(url, 200)


def _reproduce(report: Report) -> Section:
    lines = [(place, line) for place, line in enumerate(commands(report))]
    longest = max((len(run) for _, line in lines for run in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return Section(title="How to reproduce", head=[f"{fence}sh"], lines=lines, tail=[fence])
