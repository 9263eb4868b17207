"""From exceptions to one line and an exit code."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn

from nasvit_edge.cli.output import note
from nasvit_edge.errors import NasvitEdgeError

_LAST_S = 3.0


def reported(command: Callable[..., None]) -> Callable[..., None]:
    """The command with user errors as one line on stderr; anything else is a bug and keeps its traceback."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
            sys.stdout.flush()
        except NasvitEdgeError as error:
            note(f"error: {' '.join(str(error).split())}")
            sys.exit(error.exit_code)
        except KeyboardInterrupt:
            sys.stderr.write("interrupted; what was finished is kept\n")
            sys.exit(130)
        except OSError as error:  # `nasvit-edge ... | head`: nobody reads on
            if not isinstance(error, BrokenPipeError) and (sys.platform, error.errno) != (
                "win32",
                errno.EINVAL,
            ):
                raise
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(0)

    return run


def leave(code: str | int | None) -> NoReturn:
    """Exit. After an error, threads that still wait for a disk or a process keep the program for seconds only."""
    if code:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        last = threading.Timer(_LAST_S, os._exit, (code if isinstance(code, int) else 1,))
        last.daemon = True
        last.start()
    sys.exit(code)
