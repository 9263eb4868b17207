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
from typing import TYPE_CHECKING, Any

import elsewhere
from arm_cores import core_names
from emulation import emulator
from reading import first_line, matching, text_of, unread

if TYPE_CHECKING:
    from collections.abc import Sequence

PACKAGES = {"onnxruntime": ("onnxruntime", "onnxruntime-gpu"), "litert": ("ai-edge-litert", "tflite-runtime")}
_CPU, _THERMAL = Path("/sys/devices/system/cpu"), Path("/sys/class/thermal")
_WHOLE = re.compile(r"-?[0-9]{1,9}")
# Types of thermal zones that measure no temperature: a Jetson's PMIC-Die says 100 or 50 degrees always; Qualcomm's tell the battery's
# charge, voltage and current.
_NO_TEMPERATURE = re.compile(r"PMIC-Die|socd?|.*\b(?:[vi]bat|bcl)\b.*", re.IGNORECASE)
_NO_CHIPS = ("linux,dummy-virt",)  # what a virtual machine's device tree calls any chip
_LIKELY_C = (0.0, 150.0)  # a zone that is off says 0, -40 or -256; thresholds and voltages are far above
_MOST_TOLD = 280  # characters; the host keeps 300 of a text


def about(cores: Sequence[int] = ()) -> dict[str, Any]:
    """What this machine is; a field that the platform does not give is left out.

    Governor and clock are those of the cores that jobs run on; by default of the fastest.
    """
    cores = cores or usable_cores()[:1]
    clocks = [highest_mhz(core) for core in cores]
    board = first_line("/proc/device-tree/model", "/sys/devices/virtual/dmi/id/product_name")
    facts = {
        "board": board,
        "soc": processor(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "os": " ".join(part for part in (os_build(), platform.release()) if part),
        "governor": ", ".join(dict.fromkeys(filter(None, map(governor, cores)))),
        "highest_clock_mhz": max(clocks, default=0),
        "python": platform.python_version(),
    }
    by = emulator()
    if by:  # in the name of the processor, too: no table, heading or comparison may take it for the real one
        facts.update(soc=f"{facts['soc']} emulated by {by}", emulated=by)
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


def state(threads: int = 0) -> dict[str, Any]:
    """Clocks and temperatures now, where the machine gives them.

    The clocks are of the cores that this process may run on. Where each of them has one of its `threads`, they are told with their numbers.
    """
    cores = sorted(usable_cores())
    clocks = {core: mhz for core in cores for mhz in (current_mhz(core),) if mhz}
    readings = {
        "clocks_mhz": list(clocks.values()),
        "cores": list(clocks) if len(cores) <= threads else [],
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
    """(busy, all) jiffies since boot; None where they are not told."""
    values = [int(field) for field in first_line("/proc/stat").split()[1:9] if _WHOLE.fullmatch(field)]
    if len(values) < 5:
        by_psutil: tuple[int, int] | None = elsewhere.cpu_times()
        return by_psutil
    return sum(values) - values[3] - values[4], sum(values)


def processor() -> str:
    """The name of the chip as the device tree says it, or of its processor; of an Arm server, which tells neither, the kinds of its cores."""
    named: str = elsewhere.processor()
    if named:
        return named
    chip = str(text_of("/proc/device-tree/compatible")).strip("\0").split("\0")[-1]
    if chip and chip not in _NO_CHIPS:
        return chip
    text = str(text_of("/proc/cpuinfo"))
    fields = dict(reversed([_field(line) for line in text.splitlines()]))  # the first of each
    names = (fields.get("Hardware"), core_names(text), fields.get("model name"), fields.get("Model"))
    return next(filter(None, names), "") or platform.processor() or platform.machine()


def _field(line: str) -> tuple[str, str]:
    key, _, value = line.partition(":")
    return key.strip(), value.strip()


def os_build() -> str:
    """The name of the operating system and its version."""
    with contextlib.suppress(OSError, AttributeError):
        return platform.freedesktop_os_release().get("PRETTY_NAME", "")
    return platform.platform()


def usable_cores() -> list[int]:
    """The cores that this process may run on, the fastest first, of equals the last first."""
    try:
        cores = list(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        cores = list(range(os.cpu_count() or 1))
    return sorted(cores, key=lambda core: (-highest_mhz(core), -core))


def governor(core: int) -> str:
    """What sets the clock of a core; empty where it is not told."""
    return str(first_line(_CPU / f"cpu{core}/cpufreq/scaling_governor"))


def current_mhz(core: int) -> int | None:
    """The clock of a core now."""
    return khz(first_line(_CPU / f"cpu{core}/cpufreq/scaling_cur_freq"))


def highest_mhz(core: int) -> int:
    """The highest clock of a core; 0 where it is not told."""
    return khz(first_line(_CPU / f"cpu{core}/cpufreq/cpuinfo_max_freq")) or 0


def khz(text: str) -> int | None:
    """kHz as text to MHz."""
    return int(text) // 1000 if re.fullmatch("[0-9]{1,12}", text) else None
