"""Commands as a user types them, in this process; a bug keeps its traceback."""

from __future__ import annotations

import contextlib
import sys
from typing import Any, NamedTuple
from unittest import mock

from typer.testing import CliRunner

from nasvit_edge.cli import app


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def run(*arguments: Any, cwd: Any = ".", **environment: str) -> Done:
    """What `nasvit-edge ARGUMENTS` ends with in a folder; what it prints is not a terminal's."""
    words = ["nasvit-edge", *map(str, arguments)]
    with contextlib.chdir(cwd), mock.patch.object(sys, "argv", words):
        done = CliRunner().invoke(app, words[1:], env=environment, catch_exceptions=False)
    return Done(done.exit_code, done.stdout, done.stderr)
