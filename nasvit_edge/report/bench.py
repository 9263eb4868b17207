"""A benchmark report as a document: what was judged, and on what it was measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from nasvit_edge import records
from nasvit_edge.benchmark.budgets import Outcome
from nasvit_edge.benchmark.metrics import METRICS
from nasvit_edge.benchmark.report import FAIL, INVALID, BenchmarkReport, Noise
from nasvit_edge.benchmark.result import MeasuredArtifact, Result
from nasvit_edge.benchmark.verdicts import MIN_POINTS, VERDICTS
from nasvit_edge.benchmark.verdicts import JudgedMetric as Judged
from nasvit_edge.report.figures import change_text, limit_text, one, outcome_text, percent, value_text
from nasvit_edge.report.model import (
    Cell,
    Column,
    Document,
    Form,
    Section,
    Table,
    figure,
    link,
    mark,
    name,
    own,
    table,
    text,
)
from nasvit_edge.units import show_bytes, show_count, show_ms

SHA = 12  # letters of a hash
_WRITTEN = Form.MARKDOWN | Form.PAGE
_DEEPEST = 3  # tables inside of each other
_MEANING = (
    "regression: worse, surely and by more than counts; improvement: the same the other way; equivalent: surely within "
    "what counts; inconclusive: more rounds would tell; invalid: the measurement does not hold."
)


def document(report: BenchmarkReport, *more: Section) -> Document:
    """The report; `more` stands between what was judged and what it was judged by."""
    judged = report.compares or bool(report.outcomes)
    return Document(
        title=f"Benchmark on {', '.join(dict.fromkeys(name(r.device).text for r in report.results))}",
        word={FAIL: "fail", INVALID: "invalid"}.get(report.exit_code, "pass" if judged else "measured"),
        headline=report.headline,
        notes=tuple(dict.fromkeys(note for result in report.results for note in _run(result))),
        sections=(
            Section("Verdicts" if report.compares else "Figures", [_figures(report)]),
            Section("Why invalid or inconclusive", [_reasons(report)], Form.MARKDOWN),
            Section("Budgets", [_budgets(report)]),
            *more,
            Section("Trends", [_trends(report)]),
            Section("Noise floor", [_noise(report)]),
            Section("Files", [_files(report)], _WRITTEN),
            Section("Environment", [_environment(report)], _WRITTEN),
            Section("Remarks", [_remarks(report)], _WRITTEN),
        ),
    )


def _run(result: Result) -> Iterator[Cell]:
    """When and of what a run was."""
    when = name(result.run.utc.replace("T", " ").replace("+00:00", " UTC"), 40).text
    commit = f", commit {_commit(result)}" if result.run.git_sha else ""
    yield text(f"{when}{commit}, {result.rounds} rounds")
    if result.run.ci_url:
        yield link(result.run.ci_url)


def _commit(result: Result) -> str:
    return f"{(result.run.git_sha or '')[:SHA]}{' with changes' if result.run.git_dirty else ''}"


# -- what was judged --------------------------------------------------------------------------------


def _figures(report: BenchmarkReport) -> Table:
    return table(
        report.cells,
        Column("artifact", lambda c: name(c.artifact.name)),
        Column("device", lambda c: name(c.device, 40)),
        Column("runtime", lambda c: text(f"{c.artifact.runtime} {c.artifact.precision}", 80), Form.PAGE),
        Column("base file", lambda c: text(c.baseline and c.baseline.name, 80), Form.PAGE),
        Column("metric", lambda c: own(c.metric.name, c.metric.about)),
        Column("value", lambda c: figure(value_text(c.metric, c.value))),
        Column("base", lambda c: figure(value_text(c.metric, c.base, interval=False) if c.base else "")),
        Column("change", lambda c: figure(change_text(c))),
        Column("chance", lambda c: figure("" if c.chance is None else f"{c.chance:.2g}"), Form.MARKDOWN),
        Column("pairs", lambda c: figure(str(c.pairs or "")), Form.MARKDOWN),
        Column("verdict", verdict),
        Column("why", lambda c: text(c.reason), Form.PAGE),
        rank=rank,
        keys=4,
        note=rule(report),
    )


def verdict(cell: Judged) -> Cell:
    """Its mark; empty without a baseline."""
    return mark(cell.verdict or "", cell.gates, after="" if cell.gates else "(does not gate)")


def rank(cell: Judged) -> int:
    """How urgent a verdict is: 0 the most."""
    return VERDICTS.index(cell.verdict) if cell.verdict is not None else len(VERDICTS)


def rule(report: BenchmarkReport) -> str:
    """What the figures mean."""
    alpha, least = report.rule.alpha, report.rule.min_effect
    level = f"Intervals are of level {100 - 200 * alpha:.4g} %, over rounds; each round is a fresh process."
    if not report.compares:
        return f"{level} Nothing was measured beside a baseline, so there are no verdicts: give the benchmark a --baseline."
    return (
        f"A change counts from {100 * least:.3g} % on, of an accuracy from {100 * MIN_POINTS:g} points. {level} Of all that is called a regression, "
        f"at most {100 * alpha:.3g} % are false alarms on average. Filled verdicts gate, the others are only told. {_MEANING}"
    )


def _reasons(report: BenchmarkReport) -> Table:
    """Why cells are invalid or inconclusive; metrics of one reason are told together."""
    by_cause: dict[tuple[int, str, str], list[Judged]] = {}
    for cell in report.cells:
        if cell.verdict in ("invalid", "inconclusive"):
            by_cause.setdefault((id(cell.artifact), cell.verdict, cell.reason), []).append(cell)
    return table(
        by_cause.values(),
        Column("artifact", lambda cells: name(cells[0].artifact.name)),
        Column("device", lambda cells: name(cells[0].device, 40)),
        Column("verdict", lambda cells: mark(cells[0].verdict or "", any(c.gates for c in cells))),
        Column("metrics", lambda cells: own(", ".join(c.metric.name for c in cells))),
        Column("why", lambda cells: text(cells[0].reason)),
        rank=lambda cells: rank(cells[0]),
    )


def _budgets(report: BenchmarkReport) -> Table:
    return table(
        report.outcomes,
        Column("artifact", lambda o: name(o.artifact)),
        Column("device", lambda o: name(o.device, 40)),
        Column("budget", lambda o: own(o.budget.metric)),
        Column("value", lambda o: figure(outcome_text(o))),
        Column("limit", lambda o: figure(limit_text(o.budget))),
        Column("level", lambda o: own(o.budget.level)),
        Column("status", status),
        Column("why", lambda o: text(o.reason), _WRITTEN),
        rank=lambda o: int(o.status == "within"),
    )


def status(outcome: Outcome, words: str | None = None) -> Cell:
    """The mark of a budget."""
    return mark(outcome.status, outcome.budget.level == "error", words)


def _trends(report: BenchmarkReport) -> Table:
    return table(
        report.trends,
        Column("artifact", lambda t: name(t.artifact)),
        Column("device", lambda t: name(t.device, 40)),
        Column("metric", lambda t: own(t.metric)),
        Column("then", lambda t: figure(one(METRICS[t.metric], t.then.value))),
        Column("now", lambda t: figure(one(METRICS[t.metric], t.now.value))),
        Column("change", lambda t: figure(percent(t.change))),
        keys=2,
        note="trends are of two runs, minutes or days apart: they are no verdicts",
    )


# -- what it was judged by --------------------------------------------------------------------------


def _noise(report: BenchmarkReport) -> Table:
    counts = sorted({rounds for noise in report.noise for rounds in noise.detects})
    return table(
        report.noise,
        Column("artifact", lambda n: name(n.artifact)),
        Column("device", lambda n: name(n.device, 40)),
        Column("runtime", lambda n: text(n.runtime, 40)),
        Column("rounds", lambda n: own(n.rounds)),
        Column("within a round", lambda n: figure(f"{n.within:.1%}")),
        Column("between rounds", lambda n: figure(f"{n.between:.1%}")),
        Column("of ratios", lambda n: figure(f"{n.paired:.1%}")),
        *(_found(count) for count in counts),
        note="By a run with the same file on both sides: standard deviations (of the ratio of a pair, too), and the smallest increase of the "
        f"median that so many rounds find in 9 of 10 runs at alpha {report.rule.alpha:.0%}.",
    )


def _found(count: int) -> Column[Noise]:
    def cell(noise: Noise) -> Cell:
        return figure(f"{noise.detects[count]:.1%}" if count in noise.detects else "")

    return Column(f"{count} rounds find", cell)


def _files(report: BenchmarkReport) -> Table:
    return table(
        [(result, artifact) for result in report.results for artifact in result.artifacts],
        Column("file", lambda f: name(f[1].name)),
        Column("compared with", lambda f: text(_base(*f), 80)),
        Column("format", lambda f: text(f[1].format, 40)),
        Column("precision", lambda f: text(f[1].precision, 40)),
        Column("runtime", lambda f: text(f"{f[1].runtime} {f[1].runtime_version}", 60)),
        Column("size", lambda f: figure(show_bytes(f[1].bytes))),
        Column("MACs", lambda f: figure("" if f[1].macs is None else show_count(f[1].macs))),
        Column("in int8", lambda f: figure("" if f[1].int8_macs is None else f"{f[1].int8_macs:.1%}")),
        Column("predicted", lambda f: figure(show_ms(f[1].predicted_ms[0]) if f[1].predicted_ms else "")),
        Column("at that day's speed", lambda f: figure(show_ms(f[1].today_ms) if f[1].today_ms else "")),
        Column("predicted by", lambda f: text(f[1].predicted_by.line() if f[1].predicted_by else "", 200)),
        Column("SHA-256", lambda f: name(f[1].sha256[:SHA])),
    )


def _base(result: Result, artifact: MeasuredArtifact) -> str:
    return "" if artifact.baseline is None else result.artifacts[artifact.baseline].name


def _environment(report: BenchmarkReport) -> Table:
    """The device, the protocol and the run of each result, the most telling first."""
    return table(
        [
            (result, place, *fact)
            for result in report.results
            for place, fact in enumerate(_facts(result))
            if fact[1].text
        ],
        Column("device", lambda fact: name(fact[0].device, 40)),
        Column("what", lambda fact: own(fact[2])),
        Column("how", lambda fact: fact[3]),
        rank=lambda fact: fact[1],
        keys=1,
    )


def _facts(result: Result) -> list[tuple[str, Cell]]:
    run, device, protocol = result.run, result.measurer, result.protocol
    busy = device.busy_cores
    facts = {
        "hardware": _told(device.about),
        "conditions": _told(device.conditions),
        "other work": f"kept {busy:.2f} cores busy" if busy is not None and 0 < busy < 1e6 else "",
        "runtimes": ", ".join(sorted({f"{a.runtime} {a.runtime_version}".strip() for a in result.artifacts})),
        "threads": f"{result.threads}{_cores(protocol.cores)}",
        "protocol": _told(records.content(protocol)),
        "both sides are": "the same file (A/A)" if result.aa else "",
        "ended early": result.stopped or "",
        "commit": _commit(result),
        "measured": f"{run.utc} by nasvit-edge {run.tool_version}, run {run.uuid}",
        "result file": result.path.name,
    }
    return [*((what, text(value, 1000)) for what, value in facts.items()), ("CI job", link(run.ci_url))]


def _told(values: object, deep: int = 0) -> str:
    """`cores 4, soc Chip`; of what is no table nothing, nor of tables far inside of others."""
    if not isinstance(values, Mapping) or deep > _DEEPEST:
        return ""
    items = sorted((str(key), value) for key, value in values.items() if value not in (None, "", [], {}))
    return ", ".join(f"{key} {_value(value, deep)}" for key, value in items)


def _value(value: object, deep: int) -> str:
    if isinstance(value, Mapping):
        return f"({_told(value, deep + 1)})"
    if isinstance(value, list | tuple):
        return " ".join(_value(item, deep + 1) for item in value) if deep <= _DEEPEST else ""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _cores(cores: tuple[int, ...] | None) -> str:
    return f" on core{'s' * (len(cores) > 1)} {', '.join(map(str, cores[:64]))}" if cores else ""


def _remarks(report: BenchmarkReport) -> Table:
    return table(report.remarks, Column("remark", lambda remark: text(remark, 1000)))
