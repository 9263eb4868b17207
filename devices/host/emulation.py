"""Whether another program computes this one's instructions (qemu-user, box64, Rosetta): its timings are then no device's.

Standard library of Python 3.8.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import threading
from pathlib import Path

from reading import text_of

_NAMES = re.compile(r"qemu|box64|box86|FEX|rosetta", re.IGNORECASE)
_OTHERS = re.compile(
    r"AuthenticAMD|GenuineIntel|VirtualApple"
)  # of a processor that is no Arm, and of an Arm that is no x86
_ARM = ("aarch64", "arm64", "armv7l", "armv8l")


def emulator() -> str:
    """Its name, like `qemu-aarch64-static`; empty where a processor computes."""
    task = f"/proc/self/task/{threading.get_native_id()}/exe"
    for path in (
        "/proc/thread-self/exe",
        task,
        "/proc/self/exe",
    ):  # the last one is pretended by some, not the others
        with contextlib.suppress(OSError):
            name = Path(os.readlink(path)).name  # noqa: PTH115 - Path.readlink is of 3.9
            if _NAMES.search(name):
                return name
    return _by_processor(text_of("/proc/cpuinfo"), platform.machine())


def _by_processor(cpuinfo: str, machine: str) -> str:
    """An emulator without a name: the system's processor is of another kind than the one that this program sees."""
    match = _OTHERS.search(cpuinfo)
    is_arm = machine in _ARM
    if match and is_arm != (match.group() == "VirtualApple"):
        return f"a program on a processor of {match.group()}"
    return ""
