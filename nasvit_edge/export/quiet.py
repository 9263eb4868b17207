"""Converters and quantisers print, warn and log a lot that users can do nothing about."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Nothing of that reaches the user; errors are raised as ever."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # read when TensorFlow's libraries load
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    silent = io.StringIO()
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(silent),
            contextlib.redirect_stderr(silent),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


@contextlib.contextmanager
def muted() -> Iterator[None]:
    """What libraries write past Python does not reach the user either: for loading them, whose failures are exceptions."""
    sys.stderr.flush()
    try:
        stderr = os.dup(2)
    except OSError:  # there is none
        yield
        return
    try:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 2)
        os.close(nothing)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
