"""What the Mac is and how it is doing, by the programs of the system."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import subprocess
import sys
import time
import uuid
from typing import Any

from mac_runner.errors import Refused

RUNTIMES = ("coreml", "coreml-ne", "coreml-gpu", "coreml-cpu")
_COOL_S = 3600.0
THERMAL = ("nominal", "fair", "serious", "critical")


def said(*command: str) -> str:
    """What a program of the system prints; empty where it is not there or fails."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", timeout=10)
        return done.stdout.strip() if done.returncode == 0 else ""
    return ""


def system() -> str:
    """Name, version and build: Core ML comes with the system."""
    version = platform.mac_ver()[0]
    return f"macOS {version} ({said('sw_vers', '-buildVersion')})" if version else platform.platform()


def describe() -> dict[str, Any]:
    """What this machine is, as the protocol's description."""
    about = {
        "board": said("sysctl", "-n", "hw.model"),
        "soc": said("sysctl", "-n", "machdep.cpu.brand_string"),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "os": system(),
        "memory_bytes": int(re.sub(r"\D", "", said("sysctl", "-n", "hw.memsize")) or 0),
    }
    idle = re.findall(r"([0-9.]+)% idle", said("top", "-l", "2", "-n", "0", "-s", "1"))
    return {
        "id": "hello",
        "about": {key: value for key, value in about.items() if value},
        "busy_cores": (1 - float(idle[-1]) / 100) * (os.cpu_count() or 1) if idle else None,
        "conditions": conditions(said("pmset", "-g"), said("pmset", "-g", "batt")) | state(),
        "runtimes": dict.fromkeys(RUNTIMES, system()),
        "install": hashlib.sha256(f"{uuid.getnode()} {platform.node()}".encode()).hexdigest()[:16],
    }


def conditions(settings: str, battery: str) -> dict[str, Any]:
    """Power as `pmset -g` and `pmset -g batt` tell it."""
    source, charge = re.search(r"drawing from '([^']+)'", battery), re.search(r"(\d+)%", battery)
    facts = {"low_power_mode": low_power(settings)} if settings else {}
    return (
        facts
        | ({"power": source[1]} if source else {})
        | ({"battery_percent": int(charge[1])} if charge else {})
    )


def low_power(settings: str) -> bool:
    """Whether `pmset -g` says so."""
    return re.search(r"^\s*(lowpowermode|powermode)\s+1\b", settings, re.MULTILINE) is not None


def state() -> dict[str, str]:
    """The thermal state, where the system tells it."""
    level = thermal(said("pmset", "-g", "therm"))
    return {"thermal": level} if level else {}


def thermal(text: str) -> str | None:
    """The thermal state from `pmset -g therm`: from the limit of the CPU's speed, else from the warning level."""
    limit = re.search(r"CPU_Speed_Limit\s*=\s*(\d+)", text)
    if limit:
        return THERMAL[sum(int(limit[1]) < least for least in (100, 80, 50))]
    level = re.search(r"thermal warning level\D*(\d+)", text)
    if level:
        return THERMAL[min(2 * int(level[1]), 3)]
    return "nominal" if "No thermal warning level has been recorded" in text else None


def flags(after: dict[str, str]) -> list[str]:
    """What speaks against a measurement."""
    hot = THERMAL.index(after.get("thermal", "nominal")) >= 2
    slow = low_power(said("pmset", "-g"))
    return [name for name, on in (("throttled", hot), ("low power mode", slow)) if on]


def cool_down(most: str) -> None:
    """Wait while the machine is hotter than `most`; Refused after an hour."""
    until = time.monotonic() + _COOL_S
    while THERMAL.index(state().get("thermal", "nominal")) > THERMAL.index(most):
        if time.monotonic() > until:
            raise Refused(
                f"the machine has not been {most} for an hour; let it rest, the same command continues"
            )
        print(f"waiting until the machine is {most}", file=sys.stderr)
        time.sleep(5)
