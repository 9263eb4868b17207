"""What the machine is that this runs on: board, cores, clocks, temperatures, other work, runtimes. Standard library of Python 3.8."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import platform
import time
from pathlib import Path
from typing import Any

PACKAGES = {"onnxruntime": ("onnxruntime", "onnxruntime-gpu"), "litert": ("ai-edge-litert", "tflite-runtime")}
_CPU = Path("/sys/devices/system/cpu")


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
    clocks = [khz(first_line(path)) for path in sorted(_CPU.glob("cpu[0-9]*/cpufreq/scaling_cur_freq"))]
    zones = [first_line(path) for path in Path("/sys/class/thermal").glob("thermal_zone*/temp")]
    celsius = [int(zone) / 1000 for zone in zones if zone.lstrip("-").isdigit()]
    readings = {"clocks_mhz": [c for c in clocks if c], "hottest_c": max(celsius, default=None)}
    return {key: value for key, value in readings.items() if value}


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
    fields = first_line("/proc/stat").split()[1:9]
    if not fields:
        return None
    values = [int(field) for field in fields]
    return sum(values) - values[3] - values[4], sum(values)


def processor() -> str:
    """The name of the processor, or of the chip where the device tree says it."""
    with contextlib.suppress(OSError):
        names = Path("/proc/device-tree/compatible").read_text(errors="replace").strip("\0").split("\0")
        if names[-1]:
            return names[-1]
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("model name", "Hardware", "Model")):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def os_build() -> str:
    """The name of the operating system and its version."""
    with contextlib.suppress(OSError, AttributeError):
        return platform.freedesktop_os_release().get("PRETTY_NAME", "")
    return platform.platform()


def first_line(*paths: str | Path) -> str:
    """The first line of the first of these files that can be read; empty where none can."""
    for path in paths:
        with contextlib.suppress(OSError):
            return Path(path).read_text(errors="replace").split("\n")[0].strip("\0 ")
    return ""


def khz(text: str) -> int | None:
    """kHz as text to MHz."""
    return int(text) // 1000 if text.isdigit() else None
