"""What quickstart found, and its report in words."""

from __future__ import annotations

from nasvit_edge import units
from nasvit_edge.latency.setting import TableSetting
from nasvit_edge.records import Fact, Record
from nasvit_edge.report.markdown import head_and_rows
from nasvit_edge.report.model import Column, Table, figure, own, table
from nasvit_edge.searching.saved import SavedCandidate


class Exported(Record, frozen=True, kw_only=True):
    """An artifact.

    Attributes:
        error: largest difference of a logit from the elastic supernet's, over the spread of its logits.
        predicted_ms: None of a runtime that the table is not of.
        correct: of `images` test images, `accuracy` as a fraction.
    """

    path: str
    artifact: str
    runtime: str
    error: float | None
    predicted_ms: float | None
    bytes: int
    correct: int
    images: int
    accuracy: float


class Timed(Exported, frozen=True, kw_only=True):
    """One that was measured: median and 90th percentile."""

    measured_ms: float
    p90_ms: float


class NearTop(Record, frozen=True, kw_only=True, omit_defaults=False):
    """How the winner came out on images.

    Attributes:
        subnets: how many were judged, `last` of them on all `images`.
        correct: of these images, by the winner; `predicted`: by the subnet that is predicted best.
        chance: that the best of the others is no better than that subnet, as if it were the only one; 1 where there is none.
        replaced: whether one took its place.
    """

    subnets: int
    last: int
    images: int
    correct: int
    predicted: int
    chance: float
    replaced: bool

    def line(self) -> str:
        """How the choice was made, in a sentence."""
        on = f"of {self.subnets} subnets predicted near the top, the best {self.last} judged on the same {self.images} validation images"
        if self.replaced:
            more = 100 * (self.correct - self.predicted) / self.images
            return f"{on}, one is surely better than the one predicted best ({more:+.1f} points, chance {self.chance:.1e}) and takes its place"
        return f"the one that is predicted best; {on}, none is surely better"


class QuickstartReport(Record, frozen=True, kw_only=True):
    """What was found; `machine` is its fingerprint, `table` a file's name, `best` of `evaluated` subnets by `choice`."""

    budget_ms: float
    budget_why: str
    machine: dict[str, Fact]
    table: str
    setting: TableSetting
    best: SavedCandidate
    evaluated: int
    choice: NearTop
    artifacts: tuple[Timed, ...]
    seconds: float
    headline: str = ""


def headline(report: QuickstartReport) -> str:
    first = report.artifacts[0]
    return (
        f"{first.accuracy:.1%} on test images at {units.show_ms(first.measured_ms)} measured "
        f"({_predicted(first)} predicted, budget {units.show_ms(report.budget_ms)})"
    )


def title(report: QuickstartReport) -> str:
    """One line above the artifacts."""
    return f"{report.headline}; predicted by the table of {report.setting.line()}"


def artifacts(report: QuickstartReport) -> Table:
    """A row an artifact."""
    return table(
        report.artifacts,
        Column("artifact", lambda artifact: own(artifact.artifact)),
        Column("error", lambda artifact: figure(f"{artifact.error:.1e}")),
        Column("predicted", lambda artifact: figure(_predicted(artifact))),
        Column("measured", lambda artifact: figure(units.show_ms(artifact.measured_ms))),
        Column("p90", lambda artifact: figure(units.show_ms(artifact.p90_ms))),
        Column(
            "test accuracy",
            lambda artifact: figure(f"{artifact.correct} of {artifact.images} ({artifact.accuracy:.2%})"),
        ),
        Column("size", lambda artifact: figure(f"{artifact.bytes / 1e6:.2f} MB")),
    )


def _predicted(artifact: Timed) -> str:
    return "-" if artifact.predicted_ms is None else units.show_ms(artifact.predicted_ms)


def markdown(report: QuickstartReport) -> str:
    """The report as Markdown."""
    best = report.best
    lines = [
        "# nasvit-edge quickstart",
        "",
        report.headline,
        "",
        f"- machine: {report.machine['soc']}, {report.machine['cores']} cores, {report.machine.get('os', '')}",
        f"- {report.budget_why}",
        f"- predicted by the table of {report.setting.line()}",
        f"- chosen: {report.choice.line()}",
        f"- it takes {units.show_ms(best.latency_ms)} of {units.show_ms(report.budget_ms)} as predicted, has {units.show_count(best.macs)} MACs, "
        f"{units.show_count(best.parameters)} parameters, and gets {report.choice.correct} of {report.choice.images} validation images right",
        f"- took {report.seconds:.0f} s",
        "",
        *(line for lines in head_and_rows(artifacts(report)) for line in lines),
        "",
        "Error: largest difference of a logit from the elastic supernet's, over the spread of its logits. Latency: one thread, median",
        "and p90; predicted from this machine's ONNX Runtime table, so it does not apply to TFLite. Accuracy: bundled Fashion-MNIST",
        "test images, which the search has not seen.",
        "",
        "| gene | value |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in best.config.to_dict().items()),
        "",
        "Next: `nasvit-edge search --latency 20ms` for the official ImageNet space, or `nasvit-edge train` for your own images.",
        "",
    ]
    return "\n".join(lines)
