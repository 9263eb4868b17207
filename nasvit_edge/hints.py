"""Commands that messages suggest: complete, so that running one does what its message says."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterable
from typing import Any

PROGRAM = "nasvit-edge"
# what only the user has stands in capitals
DATA, WEIGHTS, RESULT, MODEL, SPACE = "DATA", "WEIGHTS", "RESULT", "MODEL", "SPACE"


def command(*words: object, **options: Any) -> str:
    """`command("profile", device="host", threads=2)` is `nasvit-edge profile --device host --threads 2`, quoted for a shell.

    An option that is None, empty or False is left out, True is a flag, and a list repeats it; `data_sets` is `--data-sets`.
    """
    parts = [PROGRAM, *map(str, words)]
    for name, value in options.items():
        for each in value if isinstance(value, list | tuple) else (value,):
            parts += _option(f"--{name.replace('_', '-')}", each)
    return subprocess.list2cmdline(parts) if sys.platform == "win32" else shlex.join(parts)


def _option(name: str, value: Any) -> Iterable[str]:
    if value is None or value is False or value == "":
        return []
    return [name] if value is True else [name, str(value)]
