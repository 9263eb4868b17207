"""Whether a latency table is this machine's, of these versions, and of the graphs that the code makes today."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from nasvit_edge import files
from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.latency import LatencyTable
from nasvit_edge.ops import Op, lower
from nasvit_edge.profile.code import code_digest, conversion_digest
from nasvit_edge.profile.models import format_for, graph_hash, op_module
from nasvit_edge.space import SubnetConfig

_RUNTIME_PACKAGES = {"onnxruntime": ("onnxruntime",), "litert": ("ai-edge-litert", "tflite-runtime")}
_MACHINE = ("board", "soc", "architecture", "cores")  # another one of these is another machine
_STATE = ("os", "governor", "highest_clock_mhz")


@dataclass(frozen=True, slots=True)
class Concern:
    """Why a table may not hold here; `serious` ones make its numbers those of something else."""

    text: str
    serious: bool


def concerns(table: LatencyTable, configs: Iterable[SubnetConfig] = ()) -> list[Concern]:
    """What speaks against using `table` for `configs` on this machine."""
    if table.raw.get("provenance") == "imported":
        source = table.raw.get("source", "elsewhere")
        return [Concern(f"the table was imported ({source}), not measured by nasvit-edge", serious=False)]
    found = []
    if table.raw.get("device") == "host":
        found += _machine(table)
        found += _version(table)
    found += _graphs(table, configs)
    return found


def fingerprint() -> dict[str, Any]:
    """What this machine is, in the words of the host's runner."""
    path = files.shipped("devices") / "host" / "machine.py"
    spec = importlib.util.spec_from_file_location("nasvit_edge_host_machine", path)
    assert spec is not None
    assert spec.loader is not None
    machine = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(machine)
    found: dict[str, Any] = machine.about()
    return found


def runtime_version(runtime: str) -> str | None:
    """The installed version of a runtime; None where it is not installed."""
    for package in _RUNTIME_PACKAGES[runtime]:
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def other_machine(table: LatencyTable, here: dict[str, Any] | None = None) -> str | None:
    """Why the table is of another machine than `here` (a fingerprint; this one's without); None where it is of it."""
    if table.raw.get("provenance") == "imported":
        return "it was imported, not measured"
    told = table.raw.get("fingerprint")
    here = fingerprint() if here is None else here
    if not isinstance(told, dict):
        return "it does not say where it was measured"
    other = [key for key in _MACHINE if told.get(key) != here.get(key)]
    listed = ", ".join(f"{key} {told.get(key)!r} there and {here.get(key)!r} here" for key in other)
    return f"it was measured on another machine: {listed}" if other else None


def _machine(table: LatencyTable) -> list[Concern]:
    other = other_machine(table)
    if other is not None:
        return [Concern(other, serious=True)]
    told, here = table.raw["fingerprint"], fingerprint()
    return [
        Concern(
            f"{key} was {told.get(key)!r} when it was measured and is {here.get(key)!r} now", serious=False
        )
        for key in _STATE
        if told.get(key) != here.get(key)
    ]


def _version(table: LatencyTable) -> list[Concern]:
    runtime, told = table.raw["runtime"], table.raw.get("runtime_version")
    here = runtime_version(runtime) if runtime in _RUNTIME_PACKAGES else None
    if here is None or here == told:
        return []
    return [Concern(f"it was measured with {runtime} {told}, and {here} is installed", serious=False)]


def _graphs(table: LatencyTable, configs: Iterable[SubnetConfig]) -> list[Concern]:
    """Compare graphs only where the code changed since: building them takes a while."""
    if table.raw.get("code") == code_digest():
        return []
    ops = {op.key(): op for config in configs for op in lower(table.space, config)}
    today = _Graphs(table.raw["runtime"])
    changed = [key for key, op in ops.items() if _differs(table, key, op, today)]
    today.keep()
    if not changed:
        return []
    return [
        Concern(
            f"{len(changed)} of its ops are computed another way today (the first: {changed[0]!r})",
            serious=True,
        )
    ]


def _differs(table: LatencyTable, key: str, op: Op, today: _Graphs) -> bool:
    entry = table.raw["ops"].get(key)
    told = entry.get("graph") if isinstance(entry, dict) else None
    runtime = table.raw["runtime"]
    if not told or runtime not in _RUNTIME_PACKAGES or table.raw["precision"] != "fp32":
        return False
    return str(told) != today.of(op)


class _Graphs:
    """The hashes of ops' graphs as the code makes them now, kept in the user's cache: building an op takes a while."""

    def __init__(self, runtime: str) -> None:
        from platformdirs import user_cache_path

        self.runtime, self.new = runtime, False
        name = f"{conversion_digest()}-{runtime}-torch-{importlib.metadata.version('torch')}.json"
        self.path = user_cache_path("nasvit-edge") / "graphs" / name
        try:
            found = files.read_json(self.path, "kept hashes", 1)["graphs"]
        except (NasvitEdgeError, KeyError):
            found = {}
        pairs = found.items() if isinstance(found, dict) else ()
        self.known: dict[str, str] = {
            key: graph for key, graph in pairs if re.fullmatch("[0-9a-f]{24}", str(graph))
        }

    def of(self, op: Op) -> str:
        """The hash of an op's graph."""
        key = op.key()
        if key not in self.known:
            shape = (1, *op.in_shape())
            self.known[key] = graph_hash(op_module(op, format_for(self.runtime).layout), shape, self.runtime)
            self.new = True
        return self.known[key]

    def keep(self) -> None:
        """Write what is new; a cache that cannot be written to is no error."""
        if self.new:
            with contextlib.suppress(NasvitEdgeError, OSError):
                self.path.parent.mkdir(parents=True, exist_ok=True)
                files.write_json(self.path, {"schema": 1, "graphs": self.known})
