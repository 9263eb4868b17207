"""Reads what a machine says of itself: nothing that a file or a program does ends or holds up the work beside it.

A driver may answer anything. A temperature sensor of a unit without power says EAGAIN, at which Python before 3.14 raises
TypeError where the file is read as text; others never answer. Standard library of Python 3.8.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from pathlib import Path

LONGEST_S = 2.0  # for a file; a driver that has not answered by then hardly ever does
_MOST_BYTES = 1 << 20  # /proc/cpuinfo of a large server has half of that
_LONGEST = 20_000  # characters of a program's text
_NO_ANSWER = f"no answer in {LONGEST_S:g} s"
_UNREAD: dict[str, str] = {}  # path -> why, of files that are there


def text_of(path: str | Path) -> str:
    """The text of a file; empty where it is not there or cannot be read, which `unread` tells then.

    A file that did not answer is not asked again: its thread is left behind, as nothing ends a wait in a driver.
    """
    name = str(path)
    if _UNREAD.get(name) == _NO_ANSWER:
        return ""
    answers: list[tuple[str, str]] = []
    thread = threading.Thread(target=lambda: answers.append(_read(name)), daemon=True)
    try:
        thread.start()
        thread.join(LONGEST_S)
        text, why = answers[0] if answers else ("", _NO_ANSWER)
    except RuntimeError as error:  # no more threads
        text, why = "", str(error)
    _UNREAD.pop(name, None)
    if why:
        _UNREAD[name] = why
    return text


def _read(name: str) -> tuple[str, str]:
    """The text, and why there is none of a file that is there."""
    try:
        descriptor = os.open(name, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except (FileNotFoundError, NotADirectoryError):
        return "", ""
    except (OSError, ValueError) as error:
        return "", _reason(error)
    try:
        parts = b""
        while len(parts) < _MOST_BYTES:
            part = os.read(descriptor, 1 << 16)
            if not part:
                break
            parts += part
        return parts.decode(errors="replace"), ""
    except OSError as error:
        return "", _reason(error)
    finally:
        with contextlib.suppress(OSError):
            os.close(descriptor)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def unread() -> str:
    """Files that are there and could not be read, with why, of this process so far; empty where there are none."""
    reasons: dict[str, list[str]] = {}
    for name, why in sorted(_UNREAD.items()):
        reasons.setdefault(why, []).append("/".join(Path(name).parts[-3:]))
    lines = [
        f"{', '.join(names[:2])}{f' and {len(names) - 2} more' if len(names) > 2 else ''} ({why})"
        for why, names in reasons.items()
    ]
    return "; ".join(lines)


def first_line(*paths: str | Path) -> str:
    """The first line of the first of these files that has one; empty where none has."""
    for path in paths:
        line = text_of(path).split("\n")[0].strip("\0 \t\r")
        if line:
            return line
    return ""


def matching(folder: Path, pattern: str) -> list[Path]:
    """The paths in a folder that match, in order; none where it cannot be listed."""
    try:
        return sorted(folder.glob(pattern))
    except OSError as error:
        _UNREAD[str(folder)] = _reason(error)
        return []


def said_by(command: list[str], seconds: float = 20.0, most: int = _LONGEST) -> tuple[int, str]:
    """Exit code and text (`most` characters) of a program, which is asked nothing; 127 and why where it did not run or end.

    It stays in this process's group, which ends as a whole. What cannot be ended before (another user's program, one that waits in a
    driver) is left behind.
    """
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
    except (OSError, ValueError) as error:
        return 127, str(error)
    parts: list[bytes] = []
    thread = threading.Thread(target=_drain, args=(process, parts), daemon=True)
    thread.start()
    thread.join(seconds)
    with contextlib.suppress(subprocess.TimeoutExpired):
        if not thread.is_alive():
            code = process.wait(1.0)
            return code, b"".join(parts).decode(errors="replace")[:most]
    end(process)
    return 127, f"{command[0]} did not end in {seconds:g} s"


def _drain(process: subprocess.Popen[bytes], parts: list[bytes]) -> None:
    assert process.stdout is not None
    with process.stdout as stream:
        parts.extend(iter(lambda: stream.read(1 << 16), b""))


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a program, and wait a second for that."""
    with contextlib.suppress(OSError):
        process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(1.0)
