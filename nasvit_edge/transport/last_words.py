"""How a runner or a runtime ended: the signal, and what it printed last."""

from __future__ import annotations

import contextlib
import re
import signal
import time
from collections.abc import Sequence

from msgspec.structs import replace

from nasvit_edge.transport.answers import Broken

_FATAL = "Fatal Python error: "  # as Python's faulthandler, which runners switch on, begins
_SIGNALS = {
    "Segmentation fault": "SIGSEGV",
    "Illegal instruction": "SIGILL",
    "Aborted": "SIGABRT",
    "Bus error": "SIGBUS",
    "Floating": "SIGFPE",
}
_SHELL = 128  # what shells add to a signal's number to make an exit code
_KEPT, _LENGTH = 2, 240
_WORDS_S = 0.2  # what a fork printed last may come after the answer that it died


def crash(lines: Sequence[str], code: int | None = None) -> str:
    """By which signal it ended, where that is known, and its last lines, as one line.

    Args:
        lines: of its stderr, since the model was asked for.
        code: its exit code, negative or from 129 on for a signal; None where that is not known.
    """
    name = signal_name(code) or _reported(lines)
    if not name:
        name = "by a signal that it could not tell" if code is None else f"exit code {code}"
    if name == "SIGKILL" or (code is None and not _reported(lines)):
        name += ": as a rule memory had run out"
    words = last_words(lines)
    return f"{name}; it said last: {words!r}" if words else name


def signal_name(code: int | None) -> str:
    """The signal that an exit code stands for; empty for none."""
    number = 0 if code is None else -code if code < 0 else code - _SHELL
    with contextlib.suppress(ValueError):
        return signal.Signals(number).name
    return ""


def last_words(lines: Sequence[str]) -> str:
    """The last lines before Python's own report of the signal; where there are none, the place that it reports."""
    texts = [" ".join(line.split()) for line in lines]
    end = next((place for place, text in enumerate(texts) if text.startswith(_FATAL)), len(texts))
    before = [text for text in texts[:end] if text][-_KEPT:]
    place = [text for text in texts[end:] if re.match(r'File ".*, line \d+ in ', text)][:1]
    return " / ".join(before or place)[:_LENGTH]


def with_last_words(answer: Broken, lines: Sequence[str]) -> Broken:
    """An answer of a runner whose fork crashed, with the fork's last lines."""
    time.sleep(_WORDS_S)
    words = last_words(list(lines))
    return replace(answer, error=f"{answer.error}; it said last: {words!r}") if words else answer


def _reported(lines: Sequence[str]) -> str:
    """The signal that Python reported."""
    for line in lines:
        _, fatal, what = line.partition(_FATAL)
        if fatal:
            return next((name for text, name in _SIGNALS.items() if what.startswith(text)), "")
    return ""
