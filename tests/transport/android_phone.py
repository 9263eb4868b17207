"""What a phone has besides adbd: the programs that are asked for its state, each a few lines of shell, and its sysfs.

`state/` holds what they answer with, `state/calls` what they were called with.
"""

from __future__ import annotations

from pathlib import Path

THERMAL = """IsStatusOverride: false
Thermal Status: {status}
Cached temperatures:
\tTemperature{{mValue=84.208, mType=0, mName=CPU, mStatus=0}}
HAL Ready: true
Current temperatures from HAL:
\tTemperature{{mValue=34.351, mType=3, mName=SKIN, mStatus=0}}
\tTemperature{{mValue=41.5, mType=0, mName=CPU, mStatus=0}}
Temperature static thresholds from HAL:
\tTemperatureThreshold{{mType=3, mName=SKIN, mHotThrottlingThresholds=[NaN, NaN, NaN, 50.0, 70.0, 80.0, 90.0]}}
"""
BATTERY = """Current Battery Service state:
  AC powered: false
  USB powered: true
  level: 83
  scale: 100
  temperature: 312
"""
PROPERTIES = {
    "ro.product.manufacturer": "Acme",
    "ro.product.model": "Phone 7; rm -rf /",
    "ro.soc.manufacturer": "Acme",
    "ro.soc.model": "A1000",
    "ro.product.cpu.abi": "arm64-v8a",
    "ro.build.version.release": "14",
    "ro.build.id": "UP1A",
}
PROGRAMS = {
    # a `sequence` of thermal statuses is used up, one a look, but for the last
    "dumpsys": """
cd "$ADBD_ROOT/state"
[ "$1" = thermalservice ] && [ -s sequence ] || exec cat "$1"
read -r status < sequence
[ "$(grep -c . sequence)" -gt 1 ] && sed -i 1d sequence
sed "s/^Thermal Status: .*/Thermal Status: $status/" thermalservice
""",
    "getprop": 'cat "$ADBD_ROOT/state/properties/$1" 2>/dev/null',
    "svc": 'echo "svc $*" >> "$ADBD_ROOT/state/calls"; [ "$3" = usb ] && echo 2 > "$ADBD_ROOT/state/stay_on_while_plugged_in"',
    "cmd": """
echo "cmd $*" >> "$ADBD_ROOT/state/calls"
case "$1 $2" in
  "settings get") cat "$ADBD_ROOT/state/$4" 2>/dev/null || echo null ;;
  "settings put") echo "$5" > "$ADBD_ROOT/state/$4" ;;
  "power set-fixed-performance-mode-enabled") [ -e "$ADBD_ROOT/state/no_fixed" ] && { echo "Unknown command: $2"; exit 255; }; echo "$3" > "$ADBD_ROOT/state/fixed" ;;
esac
""",
    # a mask is of this phone's eight cores, of which the machine has fewer
    "taskset": 'echo "$1" >> "$ADBD_ROOT/state/masks"; case "$1" in *[!0-9a-f]*) echo "bad mask $1"; exit 1;; esac; shift; exec "$@"',
}


def furnish(root: Path, cores: int = 8) -> Path:
    """Programs, state and sysfs below `root`; returns the folder of states."""
    state = root / "state"
    (state / "properties").mkdir(parents=True)
    (root / "bin").mkdir(exist_ok=True)
    for name, value in PROPERTIES.items():
        (state / "properties" / name).write_text(value + "\n")
    for name, body in PROGRAMS.items():
        path = root / "bin" / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
    for core in range(cores):
        folder = root / f"sys/devices/system/cpu/cpu{core}/cpufreq"
        folder.mkdir(parents=True)
        (folder / "cpuinfo_max_freq").write_text(f"{2400000 if core >= 4 else 1800000}\n")
        (folder / "scaling_cur_freq").write_text("1500000\n")
        (folder / "scaling_governor").write_text("schedutil\n")
    heat(state, 0)
    (state / "battery").write_text(BATTERY)
    (state / "power").write_text("POWER MANAGER\n  mWakefulness=Awake\n  mWakefulnessChanging=false\n")
    (state / "stay_on_while_plugged_in").write_text("3\n")
    return state


def heat(state: Path, status: int) -> None:
    """Set the thermal status."""
    (state / "thermalservice.new").write_text(THERMAL.format(status=status))
    (state / "thermalservice.new").replace(state / "thermalservice")
