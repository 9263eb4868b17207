"""What the file of a latency table holds, as records."""

from __future__ import annotations

from copy import copy
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType, field
from msgspec.structs import asdict

from nasvit_edge.latency.composition import Composition
from nasvit_edge.latency.context import Context
from nasvit_edge.latency.names import Precision
from nasvit_edge.records import Amount, Count, Fact, Figure, Name, Number, Record, Whole
from nasvit_edge.runtimes import RuntimeName

Schema = Literal[2]
SCHEMA: Schema = 2
Latency = Annotated[float, Meta(ge=1e-9, lt=1e9, description="a latency in ms, from 1e-9 to below 1e9")]


def _written(value: Any) -> Any:
    """A default that is written, too."""
    return field(default_factory=lambda: copy(value))


class State(Record, frozen=True, kw_only=True):
    """What a device told of itself right before or after a measurement.

    Attributes:
        clocks_mhz: of each of `cores`; where those are not told, of any cores.
        cores: by number, those that the measurement ran on, each of them busy.
        thermal: as the system calls it: nominal, fair, serious, critical; or 0 to 6.
    """

    clocks_mhz: Annotated[tuple[Number, ...], Meta(min_length=1)] | None = None
    cores: Annotated[tuple[Whole, ...], Meta(min_length=1)] | None = None
    hottest_c: Number | None = None
    thermal: str | None = None


class OpEntry(Record, frozen=True, kw_only=True):
    """What an op took, in ms: the median of its visits' medians; the 90 % quantile and the MAD over all samples.

    Attributes:
        runs: calls of the model, over all visits.
        graph: hash of the graph that was measured.
        samples: those of each visit, packed.
        state: before the first and after the last visit.
    """

    median_ms: Latency
    p90_ms: Latency | None = None
    mad_ms: Amount | None = None
    runs: Whole | None = None
    visits: Whole | None = None
    graph: str = ""
    flags: tuple[str, ...] = _written(())
    samples: tuple[str, ...] = ()
    state: tuple[State, State] | None = None
    energy_mj: Number | None = None


class SubnetEntry(OpEntry, frozen=True, kw_only=True):
    """What a whole subnet took."""

    config: dict[str, Any]

    @classmethod
    def of(cls, config: dict[str, object], entry: OpEntry) -> SubnetEntry:
        """The entry of a subnet."""
        return cls(**asdict(entry) | {"config": config})


class Guess(Record, frozen=True, kw_only=True):
    """An op's estimate, and the mean relative error of its kind's."""

    median_ms: Latency
    error: Amount


class Canaries(Record, frozen=True, kw_only=True):
    """What the canaries said: each reading's factor, the largest deviation, and how many measurements were set aside."""

    models: tuple[str, ...] = _written(())
    threshold: Amount
    readings: tuple[Amount, ...] = _written(())
    largest: Amount
    set_aside: Whole
    measured: Whole


class Sampling(Record, frozen=True, kw_only=True):
    """Of a table for which not all ops were measured: the estimates' errors, and how many ops of how many were."""

    error: Amount
    kinds: dict[str, Amount] = _written({})
    share: Amount
    target: Amount
    measured: Whole
    ops: Whole


class Validated(Record, frozen=True, kw_only=True):
    """A whole subnet: what was predicted, and what each pass measured."""

    config: dict[str, Any]
    predicted_ms: Latency
    low_ms: Latency | None = _written(None)
    high_ms: Latency | None = _written(None)
    measured_ms: Annotated[tuple[Latency, ...], Meta(min_length=2)]


class Validation(Record, frozen=True, kw_only=True):
    """How good predictions are, see `profile.validate.report`."""

    count: Whole
    mape: Amount
    bias: Figure
    largest: Amount
    within_5: Amount
    within_10: Amount
    tau: Figure
    tau_bands: Figure
    inside_interval: Amount | None = _written(None)
    repeat_mape: Amount
    date: str | None = None
    seed: int | None = None
    subnets: tuple[Validated, ...] = _written(())


class Sustained(Record, frozen=True, kw_only=True):
    """A run without a pause.

    Attributes:
        minute1_ms: the median of the first minute (of the first quarter of a run shorter than four).
        steady_ms: that of the last quarter.
        factor: steady over minute 1.
        windows: (seconds since the start, ms).
    """

    seconds: Amount
    minute1_ms: Latency
    steady_ms: Latency
    factor: Annotated[float, Meta(gt=0.1, lt=100)]
    windows: tuple[tuple[Amount, Latency], ...] = _written(())
    date: str | None = None
    config: dict[str, Any] | None = None
    flags: tuple[str, ...] = _written(())
    state: tuple[State, State] | None = None


class Renewed(Record, frozen=True, kw_only=True):
    """When which entries of the table were measured again."""

    date: str
    tool_version: str
    code: str
    ops: tuple[str, ...]
    subnets: Whole
    canaries: Canaries


class Imported(Record, frozen=True, kw_only=True):
    """What of a published table was taken."""

    entries: Whole
    missing: dict[str, Whole] = _written({})
    approximated: tuple[str, ...] = _written(())


class TableFile(Record, frozen=True, kw_only=True):
    """The file of a latency table.

    Attributes:
        device: the table's name for it; `target` is the device's own.
        program_sha256: of a program of one's own on the device; None of the shipped one. Older tables do not say.
        unknown: what nobody recorded of an imported table.
        conditions: what may have been different the next time.
    """

    schema: Schema
    kind: str = _written("latency table")
    provenance: str | None = None
    source: str | None = None
    unknown: tuple[str, ...] = ()
    date: str | None = None
    tool_version: str | None = None
    device: Name
    target: Name | None = None
    transport: str | None = None
    runtime: RuntimeName
    runtime_version: str | None = _written(None)
    threads: Count
    cores: tuple[Whole, ...] | None = None
    precision: Precision
    space: Name
    protocol: dict[str, Fact] | str | None = _written(None)
    seed: int | None = None
    fingerprint: dict[str, Fact] | None = None
    conditions: dict[str, Fact] | None = None
    arithmetic: dict[str, Any] | None = None
    code: str | None = None
    program_sha256: str | UnsetType | None = UNSET
    ops_digest: str | None = None
    ops: Annotated[dict[str, OpEntry], Meta(min_length=1)]
    call_ms: Amount
    estimates: dict[str, Guess] = _written({})
    sampling: Sampling | None = _written(None)
    canaries: Canaries | None = None
    subnets: tuple[SubnetEntry, ...] = _written(())
    context: Context | None = _written(None)
    composition: Composition | None = _written(None)
    validation: Validation | None = _written(None)
    sustained: Sustained | None = None
    renewed: tuple[Renewed, ...] = ()
    imported: Imported | None = field(default=None, name="import")
