"""Lines of tegrastats, of every generation: with and without a date, cores that are off, rails of any board."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

_TEMPERATURE = re.compile(r"(?<![\w.])([A-Za-z]\w*)@(-?\d+(?:\.\d+)?)C(?![A-Za-z])")
# Now, mean and (from JetPack 7.2 on) maximum; in mW, which JetPack 4 does not say. Memory (`RAM 1/2MB`) has another unit.
_RAIL = re.compile(r"(?<!\S)([A-Z]\w*) (-?\d+)(?:mW)?/-?\d+(?:mW)?(?:/-?\d+(?:mW)?)?(?!\S)")
_LOAD = re.compile(r"(?<!\S)GR3D(?:_FREQ)? (?:(\d{1,4})%)?(?:@\[?(\d{1,6}))?")
_MEMORY = re.compile(r"(?<!\S)RAM (\d+)/(\d+)MB")
_CORES = re.compile(r"(?<!\S)CPU \[([^\]]*)\]")
_CORE = re.compile(r"off|(\d+)%@(\d+)")
_TOTAL = ("VDD_IN", "POM_5V_IN", "VIN")  # what goes into the board; the others are parts of it
_NOT_CONNECTED = "NC"
_NO_SENSOR_C = ("PMIC",)  # says 100 or 50 always


@dataclass(frozen=True, slots=True)
class Reading:
    """One line.

    Attributes:
        power_mw: of the whole board: its input rail, or where it has none (AGX Xavier, AGX Orin, Thor) the sum of all, which are
            beside each other there. A rail near zero may be below it by its meter's offset, and counts so.
        rails_mw: each rail now.
        hottest_c: the hottest sensor.
        gpu_share: how busy the GPU is, 0 to 1; gpu_mhz its clock, where told.
        core_mhz: the clocks of the cores that are on.
    """

    power_mw: float | None
    rails_mw: dict[str, float]
    hottest_c: float | None
    gpu_share: float | None
    gpu_mhz: float | None
    core_mhz: tuple[float, ...]


def read_line(line: str) -> Reading | None:
    """A line; None where it is none of tegrastats."""
    cores = _CORES.search(line)
    if _MEMORY.search(line) is None or cores is None:
        return None
    matches = [_CORE.fullmatch(core.strip()) for core in cores[1].split(",")]
    rails = {name: float(now) for name, now in _RAIL.findall(line) if name != _NOT_CONNECTED}
    heat = [float(c) for name, c in _TEMPERATURE.findall(line) if name not in _NO_SENSOR_C]
    heat = [celsius for celsius in heat if 0 < celsius < 150]  # a sensor that is off says -256
    load = _LOAD.search(line)
    return Reading(
        power_mw=_total(rails),
        rails_mw=rails,
        hottest_c=max(heat, default=None),
        gpu_share=min(1.0, int(load[1]) / 100) if load and load[1] else None,
        gpu_mhz=float(load[2]) or None if load and load[2] else None,  # 0: it has no clock now
        core_mhz=tuple(float(core[2]) for core in matches if core and core[2]) if all(matches) else (),
    )


def _total(rails: dict[str, float]) -> float | None:
    whole = next((rails[name] for name in _TOTAL if name in rails), None)
    total = sum(rails.values()) if whole is None else whole
    return total if 0 < total < 1e6 else None


def read_lines(lines: Sequence[object]) -> list[Reading]:
    """Those lines that are known."""
    readings = [read_line(line) for line in lines if isinstance(line, str)]
    return [reading for reading in readings if reading is not None]


def mean_power_mw(readings: Sequence[Reading]) -> float | None:
    """The mean power of the board; None where fewer than two readings tell it."""
    powers = [reading.power_mw for reading in readings if reading.power_mw is not None]
    return round(statistics.fmean(powers), 1) if len(powers) >= 2 else None
