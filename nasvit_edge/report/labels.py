"""Reports grouped by artifact, with names that other programs can show."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from nasvit_edge.benchmark.budgets import Outcome
from nasvit_edge.benchmark.report import BenchmarkReport
from nasvit_edge.benchmark.result import MeasuredArtifact, Result
from nasvit_edge.benchmark.verdicts import JudgedMetric
from nasvit_edge.report.model import plain


@dataclass(frozen=True, slots=True)
class Group:
    """An artifact on a device: all its cells, and the budgets on it.

    Attributes:
        label: one line, the same for the same artifact and setting in every report, and only once in a report.
    """

    label: str
    result: Result
    artifact: MeasuredArtifact
    cells: tuple[JudgedMetric, ...]
    outcomes: tuple[Outcome, ...]

    def cell(self, metric: str) -> JudgedMetric | None:
        """The cell of a metric; None where it was not measured."""
        return next((cell for cell in self.cells if cell.metric.name == metric), None)


def grouped(report: BenchmarkReport) -> list[Group]:
    """The artifacts that are judged, in the order of the report."""
    groups = []
    left = list(report.outcomes)
    for result in report.results:
        for artifact in result.artifacts:
            cells = tuple(cell for cell in report.cells if cell.artifact is artifact)
            if cells:
                key = (result.device, artifact.name, artifact.runtime)
                outcomes = tuple(o for o in left if (o.device, o.artifact, o.runtime) == key)
                left = [o for o in left if (o.device, o.artifact, o.runtime) != key]
                groups.append(Group(_label(result, artifact), result, artifact, cells, outcomes))
    labels = unique(group.label for group in groups)
    return [replace(group, label=label) for label, group in zip(labels, groups, strict=True)]


def _label(result: Result, artifact: MeasuredArtifact) -> str:
    threads = f"{result.threads} thread{'s' * (result.threads > 1)}"
    device, runtime = plain(result.device, 60), plain(artifact.runtime, 40)
    return f"{plain(artifact.name)} on {device} by {runtime}, {threads}"


def unique(labels: Iterable[str]) -> list[str]:
    """The labels, a number behind those that were there before."""
    seen: set[str] = set()
    distinct = []
    for label in labels:
        number, candidate = 1, label
        while candidate in seen:
            number += 1
            candidate = f"{label} ({number})"
        seen.add(candidate)
        distinct.append(candidate)
    return distinct
