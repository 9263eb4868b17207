"""Commands as a user types them, in this process; a bug keeps its traceback."""

from __future__ import annotations

import contextlib
from typing import Any, NamedTuple

from typer.testing import CliRunner

from nasvit_edge.cli import app


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def run(*arguments: Any, cwd: Any = ".", **environment: str) -> Done:
    """What `nasvit-edge ARGUMENTS` ends with in a folder; what it prints is not a terminal's."""
    with contextlib.chdir(cwd):
        done = CliRunner().invoke(app, list(map(str, arguments)), env=environment, catch_exceptions=False)
    return Done(done.exit_code, done.stdout, done.stderr)
