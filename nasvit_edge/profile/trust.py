"""Whether a latency table is this machine's, of these versions, and of the graphs that the code makes today."""

from __future__ import annotations

import importlib.metadata
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from nasvit_edge import host_code
from nasvit_edge.code import code_digest
from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.export.formats import format_for
from nasvit_edge.latency import LatencyTable, load_table
from nasvit_edge.latency.file import OpEntry
from nasvit_edge.latency.names import table_name
from nasvit_edge.machines import Machine, differences
from nasvit_edge.ops import Op, all_ops, lower
from nasvit_edge.profile.kept_graphs import Graphs
from nasvit_edge.records import Fact
from nasvit_edge.runtimes import RUNTIMES
from nasvit_edge.space import SubnetConfig

# The largest share of a prediction's time that may be of graphs that changed. An entry of the older lowering was up to half as much
# again as the newer one's (4.7 for 3.1 ms a block, docs/speed.md), so this much is off by about 5 %, within the half-width of the
# shipped tables' 90 % intervals (4 to 12 %).
OUTDATED_MOST = 0.10
SLOWER = (
    0.98  # of fp32's time: a precision that takes as much is told; smaller differences are noise of tables
)
_STATE = ("os", "governor", "highest_clock_mhz")


@dataclass(frozen=True, slots=True)
class Concern:
    """Why a table may not hold here; `serious` ones make its numbers those of something else."""

    text: str
    serious: bool


def concerns(table: LatencyTable, configs: Iterable[SubnetConfig] = ()) -> list[Concern]:
    """What speaks against using `table` for `configs` on this machine."""
    if table.file.provenance == "imported":
        source = table.file.source or "elsewhere"
        return [Concern(f"the table was imported ({source}), not measured by nasvit-edge", serious=False)]
    doubts = _emulated(table)
    if table.file.device == "host":
        doubts += _machine(table)
        doubts += _version(table)
    chosen = list(configs)
    doubts += _graphs(table, chosen)
    text = not_faster(table, chosen)
    return [*doubts, Concern(text, serious=False)] if text else doubts


def not_faster(table: LatencyTable, configs: Sequence[SubnetConfig]) -> str:
    """That a precision, which costs accuracy, takes as long here as fp32 does, by the table of that beside this one; empty where it is faster, or unknown."""
    file = table.file
    if file.precision == "fp32" or not configs:
        return ""
    beside = table.path.with_name(table_name(file.device, file.runtime, file.threads, "fp32", file.space))
    try:
        exact = load_table(beside, space=table.space)
        ratio = statistics.median(table.predict(c).ms / exact.predict(c).ms for c in configs)
    except NasvitEdgeError:
        return ""
    if ratio < SLOWER:
        return ""
    has_w8 = "w8" in format_for(file.runtime).thresholds
    smaller = "; w8 is as small, and loses less" if file.precision == "int8" and has_w8 else ""
    return f"{file.precision} takes {ratio:.2f} of fp32's time here ({beside.stem}){smaller}"


def _emulated(table: LatencyTable) -> list[Concern]:
    """Under an emulator no time is a device's; who works on an emulated machine is only told."""
    by = (table.file.fingerprint or {}).get("emulated")
    if not by:
        return []
    text = f"it was measured under an emulator ({by}): no device takes that long"
    return [Concern(text, serious=table.file.device != "host")]


def fingerprint() -> dict[str, Fact]:
    """What this machine is, in the words of the host's runner."""
    return host_code.machine().about()


def other_machine(table: LatencyTable, here: Mapping[str, Fact] | None = None) -> str | None:
    """Why the table is of another machine than `here` (a fingerprint; this one's without); None where it is of it."""
    if table.file.provenance == "imported":
        return "it was imported, not measured"
    there = table.file.fingerprint
    here = fingerprint() if here is None else here
    if there is None:
        return "it does not say where it was measured"
    other = differences(Machine.of(there), Machine.of(here))
    return f"it was measured on another machine: {', '.join(other)}" if other else None


def _machine(table: LatencyTable) -> list[Concern]:
    other = other_machine(table)
    if other is not None:
        return [Concern(other, serious=True)]
    there, here = table.file.fingerprint or {}, fingerprint()
    return [
        Concern(
            f"{key} was {there.get(key)!r} when it was measured and is {here.get(key)!r} now", serious=False
        )
        for key in _STATE
        if there.get(key) != here.get(key)
    ]


def _version(table: LatencyTable) -> list[Concern]:
    runtime, there = table.file.runtime, table.file.runtime_version
    here = RUNTIMES[runtime].version()
    if here is None or here == there:
        return []
    return [Concern(f"it was measured with {runtime} {there}, and {here} is installed", serious=False)]


def _graphs(table: LatencyTable, configs: Iterable[SubnetConfig]) -> list[Concern]:
    """How much of these subnets' time is of graphs that the code no longer makes."""
    chosen = list(configs)
    ops = {op.key(): op for config in chosen for op in lower(table.space, config)}
    changed = outdated(table, ops.values())
    if not changed:
        return []
    share = max(resting(table, config, changed) for config in chosen)
    text = (
        f"{len(changed)} of {len(ops)} ops are computed another way today (the first: {changed[0]!r}), "
        f"and up to {share:.1%} of the time rests on them"
    )
    if share > OUTDATED_MOST:
        text += f" (at most {OUTDATED_MOST:.0%} may)"
    return [Concern(text, serious=share > OUTDATED_MOST)]


def outdated(table: LatencyTable, ops: Iterable[Op]) -> list[str]:
    """The keys of those ops whose entry is of a graph that the code no longer makes.

    Graphs are compared only where the code changed since: building them takes a while.
    """
    if table.file.code == code_digest() or not importlib.util.find_spec("torch"):
        return []
    wanted = {op.key() for op in ops}
    table_ops = [op for op in all_ops(table.space) if op.key() in wanted]  # by the name that was measured
    today = Graphs(table.file.runtime, table.file.precision)
    changed = [op.key() for op in table_ops if _differs(table.file.ops.get(op.key()), op, today)]
    today.keep()
    return changed


def _differs(entry: OpEntry | None, op: Op, today: Graphs) -> bool:
    return entry is not None and bool(entry.graph) and entry.graph not in today.of(op)


def resting(table: LatencyTable, config: SubnetConfig, keys: Collection[str]) -> float:
    """The share of a subnet's time by its ops that is of these ops' entries."""
    times = [(op.key(), table.op_ms(op.key())) for op in lower(table.space, config)]
    total = sum(ms for _, ms in times)
    return sum(ms for key, ms in times if key in keys) / total if total else 0.0
