"""A benchmark report as one page that needs no network: verdicts, budgets, charts of everything measured, and where it was measured."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nasvit_edge.benchmark.metrics import METRICS
from nasvit_edge.benchmark.report import FAIL, INVALID, Report, Trend
from nasvit_edge.benchmark.verdicts import MIN_POINTS, VERDICTS, Cell
from nasvit_edge.report import bench_charts, bench_facts, bench_samples, page
from nasvit_edge.report.bench_facts import badge, dot, figure, group_row, table
from nasvit_edge.report.figures import change_text, limit_text, one, outcome_text, percent, value_text
from nasvit_edge.report.page import Body, Figure, shown

if TYPE_CHECKING:
    from nasvit_edge.benchmark.history import Point

MOST_CHARTS = 12  # of a kind
_GATE = "latency_p50"  # the most urgent verdict on this metric decides which artifacts are drawn
_MEANING = (
    "regression: worse, surely and by more than counts; improvement: the same the other way; equivalent: surely within "
    "what counts; inconclusive: more rounds would tell; invalid: the measurement does not hold."
)


def write_html(report: Report, path: Path, history: Sequence[Point]) -> None:
    """The page; `history` are the figures of earlier runs, of which those of this report's artifacts are drawn.

    Raises:
        MissingExtraError: the extra `report` is not installed.
    """
    body = Body()
    body.add("Verdicts" if report.compares else "Figures", _cells(report))
    body.add("Budgets", _budgets(report))
    body.add("Samples", *_samples(body, report))
    body.add("Changes", body.draw(bench_charts.changes(report)))
    body.add("History", *_history(body, report, history))
    body.add("Pareto front", *_several(body, bench_charts.fronts(report), "devices"))
    body.add("Predicted and measured", body.draw(bench_charts.predictions(report)))
    body.add("Trends", _trends(report))
    body.add("Noise floor", _noise(report))
    body.add("Environment", *bench_facts.environment(report))
    body.add("Remarks", _remarks(report))
    page.write_document(path, f"Benchmark: {report.headline}", body.html(_head(report)), body.figures)


def _head(report: Report) -> str:
    judged = report.compares or bool(report.outcomes)
    word = {FAIL: "fail", INVALID: "invalid"}.get(report.exit_code, "pass" if judged else "measured")
    devices = ", ".join(dict.fromkeys(shown(result.device) for result in report.results))
    runs = [bench_facts.run_text(result) for result in report.results]
    return (
        f'<h1>Benchmark on {devices}</h1>\n<p class="headline {word}"><b>{word}</b> {shown(report.headline)}</p>\n'
        f'<p class="quiet">{"<br>".join(dict.fromkeys(runs))}</p>'
    )


def _cells(report: Report) -> str:
    """As the command line shows them; what is of one artifact stands together."""
    compared = report.compares
    columns = ["metric", "value", *(["base", "change", "verdict", "why"] if compared else [])]
    groups = [list(own) for _, own in itertools.groupby(report.cells, lambda c: (c.device, id(c.artifact)))]
    bodies = [_group(own[0], len(columns)) + "".join(_row(c, compared) for c in own) for own in groups]
    told = (
        f"Intervals are of level {1 - 2 * report.rule.alpha:.0%}, over rounds; each round is a fresh process."
    )
    if compared:
        counts = f"A change counts from {report.rule.min_effect:.1%} on, of an accuracy from {100 * MIN_POINTS:g} points."
        told = f"{counts} {told} Filled verdicts gate, the others are only told. {_MEANING}"
    return f'{table(columns, bodies)}<p class="quiet"><small>{told}</small></p>'


def _group(cell: Cell, width: int) -> str:
    """The row above an artifact's cells."""
    own, base = cell.artifact, cell.baseline
    about = [f"on {shown(cell.device)}", f"{shown(own.runtime, 40)} {shown(own.precision, 40)}"]
    about += [] if base is None else [f"base: {shown(base.name)}"]
    name = f'<b>{shown(own.name)}</b> <small class="quiet">{", ".join(about)}</small>'
    return group_row(name, width)


def _row(cell: Cell, compared: bool) -> str:
    mark = dot(cell.verdict or "", filled=cell.gates)
    row = [
        f'<th title="{shown(cell.metric.about)}">{mark}{cell.metric.name}</th>',
        f"<td>{figure(value_text(cell.metric, cell.value))}</td>",
    ]
    if compared:
        base = "" if cell.base is None else shown(value_text(cell.metric, cell.base, interval=False))
        row += [f"<td>{base}</td>", f"<td>{figure(change_text(cell))}</td>"]
        row.append(f"<td>{badge(cell.verdict or '', filled=cell.gates)}</td>")
        row.append(f'<td class="wide quiet"><small>{shown(cell.reason)}</small></td>')
    return f"<tr>{''.join(row)}</tr>"


def _budgets(report: Report) -> str:
    columns = ["artifact", "device", "budget", "value", "limit", "level", "status", "why"]
    rows = [
        f'<tr><th class="long">{shown(o.artifact)}</th><td>{shown(o.device, 40)}</td><td>{o.budget.metric}</td>'
        f"<td>{figure(outcome_text(o))}</td><td>{shown(limit_text(o.budget))}</td><td>{o.budget.level}</td>"
        f"<td>{badge(o.status, filled=o.budget.level == 'error')}</td>"
        f'<td class="wide quiet"><small>{shown(o.reason)}</small></td></tr>'
        for o in report.outcomes
    ]
    return table(columns, rows) if rows else ""


def _samples(body: Body, report: Report) -> list[str]:
    """Strip and distribution of each artifact, the most urgent verdicts first where not all are drawn."""
    cells = [c for c in report.cells if c.metric.name == _GATE]
    order = sorted(cells, key=lambda c: VERDICTS.index(c.verdict) if c.verdict else len(VERDICTS))
    chosen = [c for c in cells if any(c is o for o in order[:MOST_CHARTS])]
    told = []
    for cell in chosen:
        against = f" against {shown(cell.baseline.name)}" if cell.baseline else ""
        figures = bench_samples.sample_figures(cell, report.results)
        about = f'<span class="quiet">on {shown(cell.device)}, {shown(cell.artifact.runtime, 40)}</span>'
        title = f"<h3>{shown(cell.artifact.name)}{against} {about} {badge(cell.verdict or '', filled=cell.gates)}</h3>"
        told.append(f'{title}<div class="pair">{"".join(map(body.draw, figures))}</div>')
    return [
        *told,
        _left_out(len(cells) - len(chosen), "artifacts", "those with the most urgent verdicts are drawn"),
    ]


def _history(body: Body, report: Report, history: Sequence[Point]) -> list[str]:
    if len(history) < 2:
        return []
    from nasvit_edge.report.history_page import histories

    return _several(body, histories(report, history), "artifacts")


def _several(body: Body, figures: Sequence[Figure], what: str) -> list[str]:
    """Figures of one kind, each below its title."""
    told = [f"<h3>{shown(f.title)}</h3>{body.draw(f)}" for f in figures[:MOST_CHARTS]]
    return [*told, _left_out(len(figures) - len(told), what)]


def _left_out(count: int, what: str, why: str = "") -> str:
    if count <= 0:
        return ""
    return f'<p class="quiet">{count} more {what} are not drawn{f"; {why}" if why else ""}.</p>'


def _trends(report: Report) -> str:
    if not report.trends:
        return ""
    columns = ["metric", "then", "now", "change"]
    bodies = []
    for (device, artifact), own in itertools.groupby(report.trends, lambda t: (t.device, t.artifact)):
        name = f'<b>{shown(artifact)}</b> <small class="quiet">on {shown(device)}</small>'
        bodies.append(group_row(name, len(columns)) + "".join(map(_trend, own)))
    told = "Against a stored run, minutes or days apart: no verdicts."
    return f'<p class="quiet">{told}</p>{table(columns, bodies)}'


def _trend(trend: Trend) -> str:
    metric = METRICS[trend.metric]
    sides = "".join(f"<td>{shown(one(metric, e.value))}</td>" for e in (trend.then, trend.now))
    return f"<tr><th>{metric.name}</th>{sides}<td>{figure(percent(trend.change))}</td></tr>"


def _noise(report: Report) -> str:
    counts = sorted({rounds for noise in report.noise for rounds in noise.detects})
    if not counts:
        return ""
    columns = ["artifact", "device", "rounds", "within a round", "between rounds", "of ratios"]
    columns += [f"{n} rounds find" for n in counts]
    rows = []
    for noise in report.noise:
        found = [noise.detects.get(n) for n in counts]
        figures = [f"{value:.1%}" for value in (noise.within, noise.between, noise.paired)]
        figures += ["" if value is None else f"{value:.1%}" for value in found]
        rows.append(
            f'<tr><th class="long">{shown(noise.artifact)}<br><small class="quiet">{shown(noise.runtime, 40)}</small></th>'
            f"<td>{shown(noise.device, 40)}</td><td>{noise.rounds}</td>"
            f"{''.join(f'<td>{text}</td>' for text in figures)}</tr>"
        )
    told = (
        "By a run with the same file on both sides: standard deviations (of the ratio of a pair, too), and the smallest increase of the median that so "
        f"many rounds find in 9 of 10 runs at alpha {report.rule.alpha:.0%}."
    )
    return f'<p class="quiet">{told}</p>{table(columns, rows)}'


def _remarks(report: Report) -> str:
    rows = "".join(f"<li>{shown(remark, 1000)}</li>" for remark in report.remarks)
    return f"<ul>{rows}</ul>" if rows else ""
