"""An Android device's state, read over adb: what it is, clocks, heat, battery, screen; and what is set for a measurement."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field

from nasvit_edge.errors import DeviceError
from nasvit_edge.records import Fact
from nasvit_edge.transport.adb_client import Adb
from nasvit_edge.transport.answers import Message
from nasvit_edge.transport.outputs import android

STATUS = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")
_POLL_S = 5.0
_CPU = "/sys/devices/system/cpu"
_PROPERTIES = (
    "ro.product.manufacturer",
    "ro.product.model",
    "ro.soc.manufacturer",
    "ro.soc.model",
    "ro.board.platform",
    "ro.product.cpu.abi",
    "ro.build.version.release",
    "ro.build.id",
)
_STAY_ON = "stay_on_while_plugged_in"
_FIXED = "cmd power set-fixed-performance-mode-enabled"
_REFUSED = re.compile(r"not found|Unknown|Invalid|Error|Exception|not support|usage", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class PhoneState:
    """What may change from one measurement to the next; None where the device does not say."""

    clocks: dict[int, int]
    thermal: android.Thermal
    battery: android.Battery
    awake: bool | None
    saving: bool

    def told(self, clocks: dict[int, int], cores: tuple[int, ...]) -> Message:
        """As the `before` or `after` of a measurement, with the clocks in MHz of the cores it ran on."""
        mine = {core: mhz for core, mhz in sorted(clocks.items()) if core in cores or not cores}
        fields = {
            "clocks_mhz": list(mine.values()) or None,
            "cores": list(mine) if mine and cores else None,
            "hottest_c": self.thermal.hottest_c,
            "thermal": None if self.thermal.status is None else str(self.thermal.status),
        }
        return {key: value for key, value in fields.items() if value is not None}

    def flags(self) -> set[str]:
        """What speaks against a measurement made in this state."""
        states = {
            "throttled": bool(self.thermal.status),
            "screen off": self.awake is False,
            "low power mode": self.saving,
        }
        return {flag for flag, is_so in states.items() if is_so}


def clocks_script(file: str = "scaling_cur_freq") -> str:
    """Prints the clock of every core; one that does not answer in 2 s has none."""
    limit = 'limit=$(command -v timeout >/dev/null && echo "timeout 2")'  # not on every phone
    return f'{limit}; for f in {_CPU}/cpu[0-9]*/cpufreq/{file}; do [ -r "$f" ] && echo "$f:$($limit cat "$f" 2>/dev/null)"; done'


def state_script(mark: str, when: str) -> str:
    """Prints what `state_of` reads, in sections named `when NAME`."""
    commands = {
        "clocks": clocks_script(),
        "thermal": "dumpsys thermalservice",
        "battery": "dumpsys battery",
        "power": "dumpsys power | grep mWakefulness=",
        "saving": "cmd settings get global low_power",
    }
    lines = [
        f'echo; echo "{mark} {when} {name}"; {command} 2>/dev/null' for name, command in commands.items()
    ]
    return "\n".join([*lines, f'echo; echo "{mark} {when} done"'])


def state_of(parts: dict[str, str], when: str) -> PhoneState:
    """The state in an output that was divided by `sections`."""
    return PhoneState(
        clocks=android.clocks_mhz(parts.get(f"{when} clocks", "")),
        thermal=android.thermal(parts.get(f"{when} thermal", "")),
        battery=android.battery(parts.get(f"{when} battery", "")),
        awake=android.awake(parts.get(f"{when} power", "")),
        saving=parts.get(f"{when} saving", "").strip() == "1",
    )


@dataclass(slots=True)
class Phone:
    """The device at the other end of `adb`.

    Attributes:
        stay_on: the setting to restore; None where nothing was set.
        fixed: whether its clocks were fixed by us; `refused` where it does not do that.
    """

    adb: Adb
    properties: dict[str, str] = field(default_factory=dict)
    fastest_mhz: dict[int, int] = field(default_factory=dict)
    governor: str = ""
    core_count: int = 0
    taskset: bool = False
    stay_on: str | None = None
    fixed: bool = False
    refused: bool = False

    def look(self) -> None:
        """Read what the device is."""
        mark = self.adb.mark
        names = " ".join(_PROPERTIES)
        _, output = self.adb.shell(
            f'echo "{mark} properties"; for n in {names}; do echo "$n=$(getprop $n)"; done\n'
            f'echo "{mark} clocks"; {clocks_script("cpuinfo_max_freq")}\n'
            f'echo "{mark} governor"; cat {_CPU}/cpu0/cpufreq/scaling_governor 2>/dev/null\n'
            f'echo "{mark} cores"; grep -c ^processor /proc/cpuinfo\n'
            f'echo "{mark} taskset"; command -v taskset'
        )
        parts = android.sections(output, mark)
        self.properties = android.properties(parts.get("properties", ""))
        self.fastest_mhz = android.clocks_mhz(parts.get("clocks", ""))
        self.governor = parts.get("governor", "").strip()[:40]
        cores = parts.get("cores", "").strip()
        self.core_count = max(int(cores) if cores.isdigit() else 0, len(self.fastest_mhz))
        self.taskset = bool(parts.get("taskset", "").strip())

    def about(self) -> dict[str, Fact]:
        """The same at every connection, until Android is updated."""
        value = self.properties.get
        release = " ".join(filter(None, (value("ro.build.version.release"), value("ro.build.id"))))
        soc = " ".join(filter(None, (value("ro.soc.manufacturer"), value("ro.soc.model"))))
        facts = {
            "board": " ".join(filter(None, (value("ro.product.manufacturer"), value("ro.product.model")))),
            "soc": soc or value("ro.board.platform"),
            "architecture": value("ro.product.cpu.abi"),
            "cores": self.core_count or None,
            "os": f"Android {release}" if release else None,
            "highest_clock_mhz": max(self.fastest_mhz.values(), default=None),
        }
        return {key: content for key, content in facts.items() if content}

    def cores(self, threads: int) -> tuple[int, ...]:
        """The fastest cores, the last of equals; none where the device does not say or cannot pin."""
        if not self.taskset or threads >= len(self.fastest_mhz):
            return ()
        ranked = sorted(self.fastest_mhz, key=lambda core: (self.fastest_mhz[core], core))
        return tuple(sorted(ranked[-threads:]))

    def state(self) -> PhoneState:
        """As it is now."""
        _, output = self.adb.shell(state_script(self.adb.mark, "now"))
        return state_of(android.sections(output, self.adb.mark), "now")

    def conditions(self, state: PhoneState) -> dict[str, Fact]:
        """What may differ the next time."""
        status = state.thermal.status
        facts = {
            "governor": self.governor or None,
            "clocks": "fixed performance mode" if self.fixed else "not fixed",
            "thermal_status": None if status is None else f"{status} ({STATUS[status]})",
            "hottest_c": state.thermal.hottest_c,
            "skin_c": state.thermal.skin_c,
            "battery_percent": state.battery.level,
            "battery_c": state.battery.celsius,
            "powered": state.battery.powered,
            "screen": None if state.awake is None else "on" if state.awake else "off",
            "battery_saver": state.saving or None,
        }
        return {key: value for key, value in facts.items() if value is not None}

    def cool(self) -> PhoneState:
        """Wait until Android says that it does not throttle.

        Raises:
            DeviceError: it still throttles after `adb.wait_s`.
        """
        until, noted = time.monotonic() + self.adb.wait_s, False
        while True:
            state = self.state()
            status = state.thermal.status
            if not status:
                return state
            skin = "" if state.thermal.skin_c is None else f", skin {state.thermal.skin_c:.1f} C"
            what = f"device {self.adb.serial!r} is at thermal status {status} ({STATUS[status]}{skin})"
            if time.monotonic() >= until:
                raise DeviceError(
                    f"{what} and did not cool down in {self.adb.wait_s:g} s: let it rest, out of its case and off the charger"
                )
            if not noted:
                self.adb.listener.note(f"{what}: waiting up to {self.adb.wait_s:g} s for it to cool down")
                noted = True
            self.adb.waiting()
            time.sleep(min(_POLL_S, self.adb.wait_s / 4))

    def prepare(self, lock_clocks: bool) -> None:
        """Keep the screen on while it is plugged in and, if asked, fix the clocks; `restore` undoes both."""
        if self.stay_on is None:
            _, before = self.adb.shell(f"cmd settings get global {_STAY_ON} 2>/dev/null")
            self.stay_on = before.strip() if re.fullmatch(r"\s*\d{1,2}\s*", before) else "0"
        self.adb.shell("svc power stayon usb")
        if lock_clocks:
            self.fixed = True  # also where the answer is lost: it is switched off again afterwards
            code, answer = self.adb.shell(f"{_FIXED} true")
            self.refused = code != 0 or bool(_REFUSED.search(answer))
            self.fixed = not self.refused
            if self.refused:
                self.adb.listener.note(
                    f"device {self.adb.serial!r} has no fixed performance mode (Android 11 and later have): its clocks are not locked"
                )

    def restore(self) -> None:
        """Set back what `prepare` set."""
        if self.fixed:
            self.adb.shell(f"{_FIXED} false")
            self.fixed = False
        if self.stay_on is not None:
            self.adb.shell(f"cmd settings put global {_STAY_ON} {self.stay_on} || svc power stayon false")
            self.stay_on = None

    def busy_cores(self) -> float | None:
        """How many cores others keep busy; None where the device does not say."""
        _, output = self.adb.shell("grep '^cpu ' /proc/stat; sleep 0.5; grep '^cpu ' /proc/stat")
        rows = [
            [int(word) for word in line.split()[1:9] if word.isdigit()]
            for line in output.splitlines()
            if line.startswith("cpu ")
        ]
        if len(rows) != 2 or any(len(row) < 5 for row in rows):
            return None
        ticks = [after - before for before, after in zip(*rows, strict=True)]
        whole = sum(ticks)
        return None if whole <= 0 else (whole - ticks[3] - ticks[4]) / whole * (self.core_count or 1)
