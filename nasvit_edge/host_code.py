"""Modules of devices/host, which go out to devices, as this machine uses them: what reads its clocks there reads them here."""

from __future__ import annotations

import functools
import importlib
import sys
import threading
from types import ModuleType

from nasvit_edge import files

_ONE_AT_A_TIME = threading.Lock()


def machine() -> ModuleType:
    """devices/host/machine.py: what the machine is, its clocks and temperatures."""
    with _ONE_AT_A_TIME:  # devices are measured by threads of their own
        return _machine()


@functools.cache
def _machine() -> ModuleType:
    """The module; on a device its folder is the program's own, so its modules import each other by plain names."""
    folder = files.shipped("devices") / "host"
    names = {path.stem for path in folder.glob("*.py")}
    others = {name: sys.modules.pop(name) for name in names & set(sys.modules)}
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module("machine")
    finally:
        sys.path.remove(str(folder))
        for name in names:
            sys.modules.pop(name, None)
        sys.modules.update(others)
