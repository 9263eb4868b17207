"""What a table's predictions hold for: what every heading above them says."""

from __future__ import annotations

from typing import Literal

from nasvit_edge.latency.file import TableFile
from nasvit_edge.latency.names import Precision
from nasvit_edge.records import Count, Name, Record
from nasvit_edge.runtimes import RuntimeName


class TableSetting(Record, frozen=True, kw_only=True, omit_defaults=False):
    """Device, runtime, threads and precision of a table, the machine it was measured on and when; None where a table does not say."""

    device: Name
    runtime: RuntimeName
    runtime_version: str | None = None
    threads: Count
    precision: Precision | Literal["mixed"]
    machine: str | None = None
    date: str | None = None
    imported: bool = False

    def line(self) -> str:
        """`host (AMD EPYC, 2 cores), onnxruntime 1.32.0, 1 thread, fp32, measured 2026-11-24`."""
        runtime = f"{self.runtime} {self.runtime_version or ''}".strip()
        threads = f"{self.threads} thread{'' if self.threads == 1 else 's'}"
        how = "imported" if self.imported else "measured"
        when = f"{how} {self.date[:10]}" if self.date else f"{how} on an unknown day"
        return f"{self.device} ({self.machine or 'machine unknown'}), {runtime}, {threads}, {self.precision}, {when}"


def setting_of(file: TableFile) -> TableSetting:
    """The setting of a table's file."""
    keys = ("device", "runtime", "runtime_version", "threads", "precision", "date")
    facts = {key: getattr(file, key) for key in keys}
    return TableSetting(**facts, machine=_machine(file), imported=file.provenance == "imported")


def _machine(file: TableFile) -> str | None:
    """`Jetson Orin Nano, nvidia,tegra234, 6 cores`: what of a fingerprint tells one machine from another, in short."""
    facts = file.fingerprint or {}
    parts = [str(facts[key]) for key in ("board", "soc") if facts.get(key)]
    cores = [f"{facts['cores']} core{'' if facts['cores'] == 1 else 's'}"] if facts.get("cores") else []
    return ", ".join([*dict.fromkeys(parts), *cores]) if parts else None
