"""What nvpmodel and jetson_clocks of a Jetson say of its power mode and clocks."""

from __future__ import annotations

import re
from dataclasses import dataclass

_MODE = re.compile(
    r"^[^\n]*\bNV Power Mode:[ \t]*(\S[^\n]*?)\s*$", re.M
)  # NVPM VERB: Current mode: before it, with --verbose
_CORE = re.compile(r"^cpu(\d+):\s+(.*)$", re.M)
_GPU = re.compile(r"^(?:GPU|gpu-gpc-0)\s+(.*)$", re.M)  # of a Thor
_MEMORY = re.compile(r"^EMC\s+(.*)$", re.M)
_FIELD = re.compile(r"(\w+)=(\S+)")


@dataclass(frozen=True, slots=True)
class Clocks:
    """Highest clocks in MHz, and whether those of all cores and of the GPU are locked there; None where that was not told."""

    cpu_mhz: float | None
    gpu_mhz: float | None
    memory_mhz: float | None
    locked: bool | None


def power_mode(text: str) -> str | None:
    """The name of the power mode, as `nvpmodel -q` and `jetson_clocks --show` print it."""
    match = _MODE.search(text)
    return match[1][:40] if match else None


def clocks(text: str) -> Clocks:
    """`jetson_clocks --show`: cores in kHz, GPU and memory in Hz."""
    cores = [dict(_FIELD.findall(rest)) for _, rest in _CORE.findall(text)]
    on = [core for core in cores if core.get("Online", "1") == "1"]
    gpu, memory = (_fields(pattern, text) for pattern in (_GPU, _MEMORY))
    ranges = [_range(fields) for fields in [*on, gpu]]
    known = [span for span in ranges if span is not None]
    free = any(low != high for low, high in known)
    locked = False if free else True if len(known) == len(ranges) > 1 else None
    return Clocks(
        cpu_mhz=max((_highest(core, 1e3) or 0 for core in on), default=0) or None,
        gpu_mhz=_highest(gpu, 1e6),
        memory_mhz=_highest(memory, 1e6),
        locked=locked,
    )


def _fields(pattern: re.Pattern[str], text: str) -> dict[str, str]:
    match = pattern.search(text)
    return dict(_FIELD.findall(match[1])) if match else {}


def _range(fields: dict[str, str]) -> tuple[int, int] | None:
    low, high = fields.get("MinFreq", ""), fields.get("MaxFreq", "")
    good = re.fullmatch(r"[0-9]{1,15}", low) and re.fullmatch(r"[0-9]{1,15}", high)
    return (int(low), int(high)) if good and int(high) > 0 else None


def _highest(fields: dict[str, str], unit: float) -> float | None:
    span = _range(fields)
    return round(span[1] / unit, 1) if span and span[1] / unit < 1e6 else None
