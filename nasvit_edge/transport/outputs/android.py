"""What Android's `dumpsys`, `getprop`, `df` and `adb devices` print, and files of `/sys`, as values.

A value that is not there, or that cannot be, is None: nothing is guessed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_ROW = re.compile(r"^\s*Temperature\{")
_TEMPERATURE = re.compile(r"\{mValue=([^,}]+), mType=(-?\d+), mName=.*, mStatus=(-?\d+)\}")
_FLOAT = re.compile(r"-?[0-9]{1,20}(?:\.[0-9]{1,20})?(?:[eE][+-]?[0-9]{1,3})?")  # not NaN, nor Infinity
_NOW = "Current temperatures from HAL:"  # cached ones may be hours old
_SKIN = 3  # mType of what drives throttling
# mType, of android.os.Temperature: CPU, GPU, battery, skin, USB port, power amplifier; NPU, TPU, display, modem, SoC, Wi-Fi, camera,
# flashlight, speaker, ambient, pogo pins. -1 is unknown (often a difference), 6 a voltage, 7 a current, 8 the battery's charge.
_TEMPERATURES = {*range(6), *range(9, 20)}
_STATUSES = range(7)  # none, light, moderate, severe, critical, emergency, shutdown
_LIKELY_C = (-40.0, 150.0)
_STATES = "device|offline|unauthorized|authorizing|connecting|recovery|rescue|sideload|bootloader|host|detached|no permissions"
_NO_SERIALS = ("*", "List of", "adb:", "error:")  # what lines begin with that are of adb itself
_DEVICE = re.compile(rf"(\S.*?)\s+({_STATES})\b(.*)")


@dataclass(frozen=True, slots=True)
class Thermal:
    """`status` 0 (none) to 6 (shutdown); temperatures in degrees Celsius."""

    status: int | None = None
    hottest_c: float | None = None
    skin_c: float | None = None


@dataclass(frozen=True, slots=True)
class Battery:
    """`level` in %, temperature in degrees Celsius."""

    level: int | None = None
    celsius: float | None = None
    powered: bool | None = None


@dataclass(frozen=True, slots=True)
class ListedDevice:
    """A line of `adb devices`."""

    serial: str
    state: str
    more: str = ""


def thermal(text: str) -> Thermal:
    """`dumpsys thermalservice`: only what the hardware says now, not what is cached."""
    status = re.search(r"^\s*Thermal Status: (\d+)\s*$", text, re.MULTILINE)
    number = int(status[1][:4]) if status else None
    _, _, now = text.partition(_NOW)
    kinds: dict[int, list[float]] = {}
    for line in now.splitlines()[1:]:
        if not line.strip():
            continue
        if not _ROW.match(line):
            break  # the next section
        match = _TEMPERATURE.search(line)
        value = _celsius(match[1]) if match and int(match[2][:6]) in _TEMPERATURES else None
        if match and value is not None:
            kinds.setdefault(int(match[2][:6]), []).append(value)
    hottest = max((value for values in kinds.values() for value in values), default=None)
    return Thermal(number if number in _STATUSES else None, hottest, max(kinds.get(_SKIN, []), default=None))


def _celsius(text: str) -> float | None:
    if not _FLOAT.fullmatch(text):
        return None
    value = float(text)
    return value if _LIKELY_C[0] <= value <= _LIKELY_C[1] else None


def battery(text: str) -> Battery:
    """`dumpsys battery`; its temperature is in tenths of a degree."""
    pairs = re.findall(r"^\s*([A-Za-z ]+): (\S+)\s*$", text, re.MULTILINE)
    values = dict(reversed(pairs))  # the first of a name is the service's; makers add more below
    if values.get("present") == "false":
        values |= {"level": "", "temperature": ""}
    level, tenths = values.get("level", ""), values.get("temperature", "")
    powers = [value for key, value in values.items() if key.endswith(" powered")]
    return Battery(
        _percent(level, values.get("scale", "100")),
        _celsius(str(int(tenths) / 10)) if re.fullmatch(r"-?\d{1,4}", tenths) else None,
        any(value == "true" for value in powers) if powers else None,
    )


def _percent(level: str, scale: str) -> int | None:
    """The level of a battery, whose scale is 100 nearly everywhere."""
    if not re.fullmatch(r"\d{1,4}", level) or not re.fullmatch(r"[1-9]\d{0,3}", scale):
        return None
    percent = round(100 * int(level) / int(scale))
    return percent if percent <= 100 else None


def awake(text: str) -> bool | None:
    """`dumpsys power`: whether the screen is on."""
    match = re.search(r"\bmWakefulness=(\w+)", text)
    return match[1] == "Awake" if match else None


def clocks_mhz(text: str) -> dict[int, int]:
    """Core -> MHz of lines `/sys/devices/system/cpu/cpuN/cpufreq/...:kHz`."""
    pairs = re.findall(r"/cpu(\d{1,4})/cpufreq/\w+:\s*(\d{1,9})\s*$", text, re.MULTILINE)
    return {int(core): int(khz) // 1000 for core, khz in pairs if int(khz) >= 1000}


def properties(text: str) -> dict[str, str]:
    """Lines `name=value`."""
    pairs = (line.strip().partition("=") for line in text.splitlines())
    return {name: value.strip() for name, _, value in pairs if value.strip()}


def free_bytes(text: str) -> int | None:
    """`df -k FOLDER`: what is left; the column before the one in %."""
    for line in reversed(text.splitlines()):
        match = re.search(r"\s(\d{1,15})\s+\d{1,3}%\s", line + " ")
        if match:
            return int(match[1]) * 1024
    return None


def listed(text: str) -> list[ListedDevice]:
    """`adb devices`: serials and states."""
    matches = (_DEVICE.fullmatch(line.strip()) for line in text.splitlines())
    return [ListedDevice(m[1], m[2], m[3].strip()) for m in matches if m and not m[1].startswith(_NO_SERIALS)]


def hashes(text: str) -> dict[str, str]:
    """`sha256sum`: name -> hash."""
    pairs = re.findall(r"^([0-9a-f]{64})[ *]+(\S+)\s*$", text, re.MULTILINE)
    return {name.rsplit("/", 1)[-1]: digest for digest, name in pairs}


def sections(text: str, mark: str) -> dict[str, str]:
    """What stands after each line `MARK name`, up to the next; `mark` is one that no program knows."""
    parts = re.split(rf"^.*?{re.escape(mark)} ([^\r\n]*)\r?$\n?", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))
