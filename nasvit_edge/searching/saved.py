"""The records of a result file: what a search found, and all it takes to export it or to repeat the search."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, field, structs

from nasvit_edge.genes import Choice, SubnetConfig
from nasvit_edge.latency.names import MIXED, Precision
from nasvit_edge.latency.setting import TableSetting
from nasvit_edge.latency.speed import TodaysSpeed
from nasvit_edge.records import Amount, Count, Fact, Figure, Record, Sha256, Whole
from nasvit_edge.searching.limits import SavedLimit
from nasvit_edge.searching.search import Gap
from nasvit_edge.units import show_ms


class UsedTable(Record, frozen=True, kw_only=True):
    """A latency table, by what the user calls its device; older files do not say its setting."""

    name: str
    path: str
    sha256: Sha256
    setting: TableSetting | None = None


class Setting(Record, frozen=True, kw_only=True, omit_defaults=False):
    """What a search was made with, as the user gave it. Device to table are those of the first table."""

    space: str
    supernet: str | None
    calibration: str | None  # the images that batch norm is calibrated on
    accuracy_source: str
    accuracy_uncertainty: Amount
    accuracy: str | None  # the predictor, by name or path; None where accuracy is measured
    accuracy_sha256: Sha256 | None  # of the predictor's file
    device: str
    runtime: str
    threads: Count
    precision: Precision | Literal["mixed"]
    table: str
    table_sha256: Sha256
    interpolate: bool  # ops without an entry are estimated
    tables: tuple[UsedTable, ...]
    # older files do not say these
    labels_in_order: bool = False  # of class folders whose names do not say which label they are
    supernet_sha256: Sha256 | None = None  # of the weights' file; None where there is none
    calibration_sha256: str | None = None  # of the images that were calibrated on; None where none were
    filled: dict[str, Fact] = field(default_factory=dict)  # what was left out, and what it was filled in with

    def first(self) -> TableSetting:
        """What predictions by the first table hold for; of mixed precisions by the tables of all."""
        keys = ("device", "runtime", "threads", "precision")
        first = self.tables[0].setting or TableSetting(**{key: getattr(self, key) for key in keys})
        return structs.replace(first, precision=self.precision) if self.precision == MIXED else first


class SavedCandidate(Record, frozen=True, kw_only=True):
    """One subnet: config, latency with interval, accuracy, sizes; `median_ms` and `p90_ms` where it was measured.

    Attributes:
        config: not checked against the space.
        precisions: stage -> precision, where these were searched, too; `loss`: what they are predicted to cost, taken off `accuracy`.
    """

    config: SubnetConfig
    latency_ms: Amount
    low_ms: Figure | None
    high_ms: Figure | None
    coverage: Amount
    latencies_ms: tuple[Amount, ...]
    accuracy: Amount
    macs: Whole
    parameters: Whole
    bytes: Whole
    peak_bytes: Whole
    median_ms: Amount | None = None
    p90_ms: Amount | None = None
    precisions: dict[str, Precision] = field(default_factory=dict)
    loss: Amount = 0.0

    def interval(self) -> str:
        """`8.00 ms .. 9.00 ms`; empty where it is not known."""
        if self.low_ms is None or self.high_ms is None:
            return ""
        return f"{show_ms(self.low_ms)} .. {show_ms(self.high_ms)}"


class MeasuredCandidate(SavedCandidate, frozen=True, kw_only=True):
    """One that was measured; `inside`: within the budget."""

    median_ms: Amount
    p90_ms: Amount
    inside: bool


class Confirmation(Record, frozen=True, kw_only=True):
    """What was measured to confirm a winner; `factor` is measured over predicted."""

    by: Literal["median", "p90"]
    rounds: Whole
    factor: Figure
    subnets: tuple[MeasuredCandidate, ...]


class SameMacs(Record, frozen=True, kw_only=True):
    """The median of random subnets with the winner's MACs, `count` of them.

    Attributes:
        faster, better: the winner's gains, a share and a fraction. `*_error`: what these are good to; `*_above`: what of a gain is above that.
    """

    count: Count
    latency_ms: Amount
    accuracy: Figure
    faster: Figure
    better: Figure
    latency_error: Figure | None
    accuracy_error: Figure
    faster_above: Figure | None
    better_above: Figure


class Stage(Record, frozen=True, kw_only=True):
    """A stage and what it takes.

    Attributes:
        blocks: `mbconv`, `transformer`, ...
        side: of its output; 1 for the head; of a dense space height and width.
        width: of its output; of a decoder the classes.
        genes: kind -> choice.
        latency_ms: by the first table, its part of what weights cost beyond the cache included, what every subnet takes aside.
        precision: where these were searched.
    """

    name: str
    blocks: tuple[str, ...]
    side: Count | Annotated[tuple[Count, ...], Meta(min_length=2, max_length=2)]
    width: Count
    genes: dict[str, Choice]
    latency_ms: Figure
    latency_share: Figure
    parameters: Whole
    parameter_share: Figure
    macs: Whole
    precision: str = ""


class Outdated(Record, frozen=True, kw_only=True):
    """How many of a subnet's ops are computed another way since a table was measured, and their share of its time; all empty for none."""

    table: str = ""
    ops: Whole = 0
    share: Amount = 0.0


class Origin(Record, frozen=True, kw_only=True):
    """What was fine-tuned."""

    result: str
    space: str
    supernet: str


class Finetuned(Record, frozen=True, kw_only=True):
    """How a result's subnet was fine-tuned; accuracies by precision."""

    origin: Origin = field(name="from")
    recipe: dict[str, Any]
    teacher: str | None
    before: dict[str, Figure]
    after: dict[str, Figure]
    quantised: str | None
    latency_is_for_classes: Count


class OnePrecision(Record, frozen=True, kw_only=True):
    """The best subnet within the same limits with one precision for all stages; `loss` is taken off `accuracy`."""

    precision: Precision
    config: SubnetConfig
    latency_ms: Amount
    accuracy: Amount
    loss: Amount


class MixedPrecision(Record, frozen=True, kw_only=True):
    """How precisions were searched.

    Attributes:
        images: what noise was measured on.
        noise: stage -> precision -> what it adds to the logits' noise, the variance over theirs.
        additive: what all stages together add, over the sum of these.
        uniform: without mixing; where nothing is within the limits it is left out.
    """

    images: str
    noise: dict[str, dict[str, Amount]]
    additive: Amount
    uniform: tuple[OnePrecision, ...]


class ResultFile(Record, frozen=True, kw_only=True):
    """A result file.

    Attributes:
        seal: shows that the setting's paths were typed here.
        beyond: subnets a little slower than the limit, where these are known.
        space: the space's TOML; older files name it only.
        genes: gene name -> choices, where a search was kept to some.
        quality: what accuracies are, where that is another.
        today: how fast each table's machine was when it was searched, where that was measured; limits and predictions are the table's.
        outdated: a table each, where any of the winner's ops are.
        mixed: where a precision was searched for each stage.
    """

    schema: Literal[2]
    kind: Literal["search result"]
    tool_version: str
    setting: Setting
    seal: str | None = None
    budget_ms: Amount | None
    limits: tuple[SavedLimit, ...]
    seed: int
    method: str
    evaluated: Whole
    gap: Gap | None
    status: Literal["predicted", "confirmed"]
    best: SavedCandidate
    front: tuple[SavedCandidate, ...]
    beyond: tuple[SavedCandidate, ...]
    space: str | None = None
    genes: dict[str, tuple[Choice, ...]]
    same_macs: SameMacs | None
    stages: tuple[Stage, ...]
    quality: str = "accuracy"
    today: tuple[TodaysSpeed | None, ...] = ()
    outdated: tuple[Outdated, ...] = ()
    confirmation: Confirmation | None = None
    finetuned: Finetuned | None = None
    mixed: MixedPrecision | None = None
    command: tuple[str, ...] | None = None

    def slower(self) -> float | None:
        """The first table's factor for today's speed; None where it is not known, or within the noise."""
        first = self.today[0] if self.today else None
        return first.factor if first is not None and first.differs else None
