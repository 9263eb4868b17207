"""What macOS and Windows tell of a machine; they have no /proc and no /sys. Standard library of Python 3.8, and psutil where it is installed."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
from typing import Any

from reading import said_by

_TOLD_S = 10.0
_NAMES = {"darwin": "macOS", "win32": "Windows"}
_BRAND = ["sysctl", "-n", "machdep.cpu.brand_string"]  # Apple M1, Apple M4 Pro, ...
_KEY, _VALUE = r"HARDWARE\DESCRIPTION\System\CentralProcessor\0", "ProcessorNameString"


def processor() -> str:
    """The processor's name; empty on other systems, and where it is not told."""
    if sys.platform == "darwin":
        code, text = said_by(_BRAND, _TOLD_S)
        return "" if code else str(text).partition("\n")[0].strip()
    return registered(_KEY, _VALUE) if sys.platform == "win32" else ""


def registered(key: str, name: str) -> str:
    """A text of the Windows registry; empty where there is none."""
    with contextlib.suppress(ImportError, OSError):
        import winreg as registry

        tools: Any = registry  # whose types are those of Windows
        with tools.OpenKey(tools.HKEY_LOCAL_MACHINE, key) as opened:
            return str(tools.QueryValueEx(opened, name)[0]).strip()
    return ""


def memory(field: str) -> int:
    """Bytes of memory now (VmRSS) or at most so far (VmHWM) of this process; 0 where that is not told."""
    with contextlib.suppress(Exception):  # ImportError, or what psutil meets: an observation ends nothing
        if field == "VmHWM" and sys.platform == "darwin":
            import resource

            return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # bytes there
        import psutil

        now = psutil.Process().memory_info()
        return int(now.rss if field == "VmRSS" else getattr(now, "peak_wset", 0))
    return 0


def cpu_times() -> tuple[int, int] | None:
    """(busy, all) hundredths of a second since the start of the system, of all cores; None where they are not told."""
    with contextlib.suppress(Exception):
        import psutil

        times = psutil.cpu_times()
        busy = sum(getattr(times, name, 0.0) for name in ("user", "nice", "system"))
        return round(100 * busy), round(100 * (busy + times.idle))
    return None


def missing() -> dict[str, str]:
    """What the system cannot do or tell, for the conditions of an answer; empty on Linux, which can."""
    system = str(sys.platform)
    if system == "linux":
        return {}
    name = _NAMES.get(system, platform.system())
    lacking = {} if hasattr(os, "sched_setaffinity") else {"pinning": f"none on {name}"}
    return {**lacking, "clocks": f"not told by {name}", "temperature": f"not told by {name}"}
