"""JUnit XML: what a CI system shows as tests.

A suite a device; a case for each artifact and metric, and for each budget on it. Failures and errors are what
`nasvit-edge report bench` exits for:

failure   a regression that gates; a budget of level error that is exceeded, or too close to call
error     what gates was not measured validly, or a budget of level error could not be judged
skipped   inconclusive; invalid but not gating; a budget of level warn that could not be judged
passed    the rest; regressions that do not gate and exceeded budgets of level warn say so in <system-out>

Figures are <properties> of the case, as pytest writes them and Jenkins' junit step, Datadog and others read them. The
schema of Jenkins' xUnit plugin knows properties of suites only: use its junit step.
"""

from __future__ import annotations

import datetime
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from xml.etree import ElementTree

from nasvit_edge.benchmark.budgets import Outcome
from nasvit_edge.benchmark.report import BenchmarkReport
from nasvit_edge.benchmark.result import Result
from nasvit_edge.benchmark.statistics import Interval
from nasvit_edge.benchmark.verdicts import JudgedMetric
from nasvit_edge.report.figures import change_text, limit_text, outcome_text, value_text
from nasvit_edge.report.labels import Group, grouped
from nasvit_edge.report.model import plain

_Properties = dict[str, str]


@dataclass(frozen=True, slots=True)
class _Case:
    """`outcome` is the element that says it: failure, error, skipped; empty: it passed."""

    name: str
    classname: str
    outcome: str
    kind: str
    message: str
    told: str
    properties: _Properties


def junit(report: BenchmarkReport) -> str:
    """The report as JUnit XML."""
    root = ElementTree.Element("testsuites", name="nasvit-edge report bench")
    groups = grouped(report)
    for device in dict.fromkeys(result.device for result in report.results):
        results = [result for result in report.results if result.device == device]
        cases = _named(c for group in groups if group.result.device == device for c in _cases(group))
        root.append(_suite(report, device, results, cases))
    for key in ("tests", "failures", "errors"):
        root.set(key, str(sum(int(suite.attrib[key]) for suite in root)))
    ElementTree.indent(root, " ")
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _suite(
    report: BenchmarkReport, device: str, results: list[Result], cases: list[_Case]
) -> ElementTree.Element:
    count = Counter(case.outcome for case in cases)
    suite = ElementTree.Element("testsuite", name=plain(device), tests=str(len(cases)))
    for key, outcome in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(key, str(count[outcome]))
    if moment := _moment(results[0]):
        suite.set("timestamp", moment)
    _add_properties(suite, _about(report, results))
    for case in cases:
        _add_case(suite, case)
    remarks = [remark for remark in report.remarks if remark.startswith(f"{device}: ")]
    _add_text(suite, "system-out", [report.headline, *(plain(remark, 400) for remark in remarks)])
    return suite


def _named(cases: Iterable[_Case]) -> list[_Case]:
    """Cases of one class and name are told apart by a number."""
    counts: Counter[tuple[str, str]] = Counter()
    renamed = []
    for case in cases:
        counts[case.classname, case.name] += 1
        number = counts[case.classname, case.name]
        renamed.append(case if number == 1 else replace(case, name=f"{case.name} ({number})"))
    return renamed


def _cases(group: Group) -> list[_Case]:
    # what is before the last dot is a package to CI systems, so the artifact's own dots have to go
    artifact = plain(group.artifact.name).replace(".", "_")
    classname = f"{plain(group.result.device).replace('.', '_')}.{artifact}"
    return [
        *(_cell_case(classname, cell) for cell in group.cells),
        *(_budget_case(classname, outcome) for outcome in group.outcomes),
    ]


def _cell_case(classname: str, cell: JudgedMetric) -> _Case:
    value, name = value_text(cell.metric, cell.value), plain(cell.artifact.name)
    text = f"{cell.metric.about} of {name} on {plain(cell.device)}: {value}"
    if cell.base is not None and cell.baseline is not None:
        base = value_text(cell.metric, cell.base)
        text += f"\nbaseline {plain(cell.baseline.name)}: {base}\nchange: {change_text(cell)}"
    if cell.verdict is not None:
        gates = "" if cell.gates else " (does not gate)"
        text += f"\nverdict: {cell.verdict}{gates}"
    reason = plain(cell.reason, 400) if cell.reason else ""
    text += f"\n{reason}" if reason else ""
    message = f"{cell.metric.name}: {reason or f'{change_text(cell)}, now {value}'}"
    outcome = _cell_outcome(cell)
    return _Case(
        cell.metric.name, classname, outcome, cell.verdict or "", message, text, _cell_properties(cell)
    )


def _cell_outcome(cell: JudgedMetric) -> str:
    if cell.fails:
        return "failure"
    if cell.verdict == "invalid":
        return "error" if cell.gates else "skipped"
    return "skipped" if cell.verdict == "inconclusive" else ""


def _budget_case(classname: str, outcome: Outcome) -> _Case:
    budget = outcome.budget
    if outcome.fails:
        result = "failure"
    elif outcome.status == "unknown":
        result = "error" if outcome.unjudged else "skipped"
    else:
        result = ""
    reason = f"; {plain(outcome.reason, 400)}" if outcome.reason else ""
    about = f"{outcome_text(outcome)}, limit {limit_text(budget)}"
    message = f"budget {budget.metric} {outcome.status}: {about}{reason}"
    properties = {"limit": _number(budget.limit), "level": budget.level, "status": outcome.status}
    properties |= _estimate("value", outcome.value)
    return _Case(
        f"budget {budget.metric}", classname, result, f"budget {outcome.status}", message, message, properties
    )


def _cell_properties(cell: JudgedMetric) -> _Properties:
    artifact = cell.artifact
    properties = {"artifact": plain(artifact.name), "runtime": plain(artifact.runtime)}
    properties |= {"precision": plain(artifact.precision), "unit": cell.metric.unit}
    properties |= (
        _estimate("value", cell.value) | _estimate("base", cell.base) | _estimate("change", cell.change)
    )
    if cell.baseline is not None:
        properties["baseline"] = plain(cell.baseline.name)
    if cell.chance is not None:
        properties["chance"] = _number(cell.chance)
    if cell.verdict is not None:
        properties |= {"verdict": cell.verdict, "gates": str(cell.gates).lower(), "pairs": str(cell.pairs)}
    return properties


def _estimate(name: str, value: Interval | None) -> _Properties:
    """As `value`, `low`, `high`, or `base`, `base_low`, ...; ends that are unknown are left out."""
    if value is None:
        return {}
    prefix = "" if name == "value" else f"{name}_"
    ends = {name: value.value, f"{prefix}low": value.low, f"{prefix}high": value.high}
    return {key: _number(end) for key, end in ends.items() if math.isfinite(end)}


def _about(report: BenchmarkReport, results: list[Result]) -> _Properties:
    """What was measured, and by which rule."""
    properties = {"alpha": _number(report.rule.alpha), "min_effect": _number(report.rule.min_effect)}
    for result in results:
        run = result.run
        fields: dict[str, object] = {
            "tool_version": run.tool_version,
            "git_sha": run.git_sha,
            "url": run.ci_url,
        }
        fields |= {"run": run.uuid, "threads": result.threads, "rounds": result.rounds}
        fields |= {a.runtime: a.runtime_version for a in result.artifacts if a.runtime_version}
        fields |= {f"device.{key}": value for key, value in list(result.measurer.about.items())[:30]}
        properties |= {
            plain(key): plain(value, 400) for key, value in fields.items() if value not in (None, "")
        }
    return properties


def _moment(result: Result) -> str | None:
    """When it was measured, as the format has it: UTC, without a zone."""
    try:
        moment = datetime.datetime.fromisoformat(result.run.utc)
        utc = moment if moment.tzinfo is None else moment.astimezone(datetime.UTC)
    except (ValueError, OverflowError):
        return None
    return utc.replace(tzinfo=None).isoformat(timespec="seconds")


def _add_case(suite: ElementTree.Element, case: _Case) -> None:
    element = ElementTree.SubElement(suite, "testcase", name=case.name, classname=case.classname)
    _add_properties(element, case.properties)
    if case.outcome:
        child = ElementTree.SubElement(element, case.outcome, message=case.message)
        if case.outcome != "skipped":
            child.set("type", case.kind)
            child.text = case.told
    _add_text(element, "system-out", [case.told])


def _add_properties(element: ElementTree.Element, properties: Mapping[str, str]) -> None:
    listed = ElementTree.SubElement(element, "properties")
    for name, value in properties.items():
        ElementTree.SubElement(listed, "property", name=name, value=value)


def _add_text(element: ElementTree.Element, tag: str, lines: list[str]) -> None:
    ElementTree.SubElement(element, tag).text = "\n".join(lines)


def _number(value: float) -> str:
    return f"{value:.9g}"
