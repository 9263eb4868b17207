"""From exceptions to one line and an exit code."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import Any

from nasvit_edge.errors import NasvitEdgeError


def reported(command: Callable[..., None]) -> Callable[..., None]:
    """The command with user errors as one line on stderr; anything else is a bug and keeps its traceback."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
            sys.stdout.flush()
        except NasvitEdgeError as error:
            sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
            sys.exit(error.exit_code)
        except KeyboardInterrupt:
            sys.stderr.write("interrupted; what was finished is kept\n")
            sys.exit(130)
        except BrokenPipeError:  # `nasvit-edge ... | head`: nobody reads on
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(0)

    return run
