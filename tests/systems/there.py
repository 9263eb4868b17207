"""A program: imports every module of the package, then runs the commands of a JSON file in this process; see `shim`.

there.py COMMANDS.json RESULTS.json
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import pkgutil
import sys
import time
import traceback
from dataclasses import replace
from pathlib import Path


def imported():
    """Modules that cannot be imported, with their errors."""
    import nasvit_edge

    failed = {}
    for module in pkgutil.walk_packages(nasvit_edge.__path__, "nasvit_edge."):
        if not module.name.endswith("__main__"):
            try:
                importlib.import_module(module.name)
            except Exception:  # noqa: BLE001 - told
                failed[module.name] = traceback.format_exc(limit=-3)
    return failed


def brief():
    """What is measured here is not what is tested."""
    from nasvit_edge.profile.protocol import PROTOCOLS

    PROTOCOLS["quick"] = replace(
        PROTOCOLS["quick"], subnets=2, seconds=0.0, most_seconds=0.02, precision=1.0, drift=100.0
    )


def done(words):
    """Exit code, output and errors of a command."""
    from nasvit_edge.cli import app

    out, err, code = io.StringIO(), io.StringIO(), 0
    begun = time.process_time()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = app(words, standalone_mode=False) or 0
        except SystemExit as end:
            code = end.code or 0
        except Exception:  # noqa: BLE001 - told
            code = traceback.format_exc()
    took = round(time.process_time() - begun, 2)
    return {"code": code, "out": out.getvalue(), "err": err.getvalue(), "cpu_s": took}


def main():
    commands = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    failed = imported()
    brief()
    results = {"failed": failed, "imports_cpu_s": time.process_time()}
    results["done"] = {name: done(words) for name, words in commands.items()}
    Path(sys.argv[2]).write_text(json.dumps(results), encoding="utf-8")


if __name__ == "__main__":
    main()
