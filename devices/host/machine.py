"""What the machine is that this runs on: board, cores, clocks, temperatures, other work, runtimes. Standard library of Python 3.8."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import platform
import re
import time
from pathlib import Path
from typing import Any

from reading import first_line, matching, text_of, unread

PACKAGES = {"onnxruntime": ("onnxruntime", "onnxruntime-gpu"), "litert": ("ai-edge-litert", "tflite-runtime")}
_CPU, _THERMAL = Path("/sys/devices/system/cpu"), Path("/sys/class/thermal")
_WHOLE = re.compile(r"-?[0-9]{1,9}")
# Types of thermal zones that measure no temperature: a Jetson's PMIC-Die says 100 or 50 degrees always; Qualcomm's tell the battery's
# charge, voltage and current.
_NO_TEMPERATURE = re.compile(r"PMIC-Die|socd?|.*\b(?:[vi]bat|bcl)\b.*", re.IGNORECASE)
_LIKELY_C = (0.0, 150.0)  # a zone that is off says 0, -40 or -256; thresholds and voltages are far above
_MOST_TOLD = 280  # characters; the host keeps 300 of a text


def about() -> dict[str, Any]:
    """What this machine is; a field that the platform does not give is left out."""
    board = first_line("/proc/device-tree/model", "/sys/devices/virtual/dmi/id/product_name")
    facts = {
        "board": board,
        "soc": processor(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "os": " ".join(part for part in (os_build(), platform.release()) if part),
        "governor": first_line(_CPU / "cpu0/cpufreq/scaling_governor"),
        "highest_clock_mhz": khz(first_line(_CPU / "cpu0/cpufreq/cpuinfo_max_freq")),
        "python": platform.python_version(),
    }
    return {key: value for key, value in facts.items() if value}


def runtimes() -> dict[str, str]:
    """The runtimes that are here, with their versions; none without numpy, which each needs for its inputs."""
    versions: dict[str, str] = {}
    if importlib.util.find_spec("numpy") is None:
        return versions
    for name, packages in PACKAGES.items():
        for package in packages:
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                versions.setdefault(name, importlib.metadata.version(package))
    return versions


def state() -> dict[str, Any]:
    """Clocks and temperatures now, where the machine gives them."""
    clocks = [khz(first_line(path)) for path in matching(_CPU, "cpu[0-9]*/cpufreq/scaling_cur_freq")]
    readings = {
        "clocks_mhz": [c for c in clocks if c],
        "hottest_c": max(temperatures().values(), default=None),
    }
    return {key: value for key, value in readings.items() if value}


def temperatures() -> dict[str, float]:
    """Degrees Celsius of each thermal zone that measures some, by its folder's name."""
    zones = {}
    for zone in matching(_THERMAL, "thermal_zone*"):
        thousandths = first_line(zone / "temp")
        if not _WHOLE.fullmatch(thousandths) or _NO_TEMPERATURE.fullmatch(first_line(zone / "type")):
            continue
        celsius = int(thousandths) / 1000
        if _LIKELY_C[0] < celsius < _LIKELY_C[1]:
            zones[zone.name] = celsius
    return zones


def unreadable() -> dict[str, str]:
    """What could not be read of clocks and temperatures, as a condition; empty where all could."""
    state()
    paths = unread()
    return {"not_readable": paths[:_MOST_TOLD]} if paths else {}


def busy_cores(seconds: float = 0.5) -> float | None:
    """How many cores others keep busy (steal by a hypervisor included); None where the system does not say."""
    before = cpu_times()
    time.sleep(seconds)
    after = cpu_times()
    if before is None or after is None or after[1] <= before[1]:
        return None
    return (after[0] - before[0]) / (after[1] - before[1]) * (os.cpu_count() or 1)


def cpu_times() -> tuple[int, int] | None:
    """(busy, all) jiffies since boot."""
    values = [int(field) for field in first_line("/proc/stat").split()[1:9] if _WHOLE.fullmatch(field)]
    if len(values) < 5:
        return None
    return sum(values) - values[3] - values[4], sum(values)


def processor() -> str:
    """The name of the processor, or of the chip where the device tree says it."""
    chip = str(text_of("/proc/device-tree/compatible")).strip("\0").split("\0")[-1]
    if chip:
        return chip
    for line in str(text_of("/proc/cpuinfo")).splitlines():
        if line.startswith(("model name", "Hardware", "Model")):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def os_build() -> str:
    """The name of the operating system and its version."""
    with contextlib.suppress(OSError, AttributeError):
        return platform.freedesktop_os_release().get("PRETTY_NAME", "")
    return platform.platform()


def highest_mhz(core: int) -> int:
    """The highest clock of a core; 0 where it is not told."""
    return khz(first_line(_CPU / f"cpu{core}/cpufreq/cpuinfo_max_freq")) or 0


def khz(text: str) -> int | None:
    """kHz as text to MHz."""
    return int(text) // 1000 if re.fullmatch("[0-9]{1,12}", text) else None
