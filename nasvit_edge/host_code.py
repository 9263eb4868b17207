"""Modules of devices/, which go out to devices, as this machine uses them: what reads clocks or errors there reads them here."""

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
    return _loaded("host", "machine")


def complaints() -> ModuleType:
    """devices/jetson/complaints.py: why trtexec failed."""
    return _loaded("jetson", "complaints")


def _loaded(folder: str, name: str) -> ModuleType:
    with _ONE_AT_A_TIME:  # devices are measured by threads of their own
        return _module(folder, name)


@functools.cache
def _module(of: str, name: str) -> ModuleType:
    """The module; on a device its folder is the program's own, so its modules import each other by plain names."""
    folder = files.shipped("devices") / of
    names = {path.stem for path in folder.glob("*.py")}
    others = {other: sys.modules.pop(other) for other in names & set(sys.modules)}
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(folder))
        for other in names:
            sys.modules.pop(other, None)
        sys.modules.update(others)
