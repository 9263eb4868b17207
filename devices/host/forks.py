"""Models in processes of their own, in which nothing else has run. Several take turns, so only one runs at a time.

Such a process is a fork, or where there is none a fresh interpreter. It waits for its first turn before it begins. Work that knows of turns
gives up each one with `Turn.give` and waits for the next in `Turn.take`; other work is done in its first turn. Standard library of Python 3.8.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MORE, ENOUGH, OVER = b"m", b"e", b"o"  # what a fork says at the end of a turn: over, whatever the others need
_GO, _LAST, _DONE = b"g", b"l", b""
# macOS may end a fork of a process that has had threads
FORKS = hasattr(os, "fork") and sys.platform != "darwin"


class Turn:
    """The side of such a process: it runs between `take` and `give`, while the others wait."""

    def __init__(self, incoming: int, outgoing: int) -> None:
        self.incoming, self.outgoing = incoming, outgoing

    def take(self) -> bool:
        """Wait for the turn; False: it is the last one."""
        word = os.read(self.incoming, 1)
        if not word:
            os._exit(1)  # nobody waits for the answer
        return word == _GO

    def give(self, state: bytes) -> None:
        """End the turn."""
        os.write(self.outgoing, state)


class _Side:
    """The other side.

    Args:
        incoming, outgoing: ends of pipes.
        wait: returns when there is something to read from a pipe.
    """

    def __init__(self, incoming: int, outgoing: int, wait: Callable[[int], None]) -> None:
        self.incoming, self.outgoing, self.wait, self.text = incoming, outgoing, wait, b""

    def run(self, word: bytes = _GO) -> bytes:
        """Let it have its turn; what it said at the end, nothing where it has answered or ended."""
        with contextlib.suppress(OSError):  # it has ended
            os.write(self.outgoing, word)
        while True:
            self.wait(self.incoming)
            part = os.read(self.incoming, 1 << 16)
            if not self.text and part in (MORE, ENOUGH, OVER):
                return part
            if not part:
                return _DONE
            self.text += part

    def kill(self) -> None:
        """End it, whatever it is doing."""
        raise NotImplementedError

    def end(self) -> int:
        """Its exit code, negative for a signal, once its last turn is over."""
        raise NotImplementedError


class Fork(_Side):
    """A fork that calls `work`, which returns what can be JSON."""

    def __init__(self, work: Callable[[Turn], dict[str, Any]], wait: Callable[[int], None]) -> None:
        theirs, outgoing = os.pipe()
        incoming, ours = os.pipe()
        super().__init__(incoming, outgoing, wait)
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self.outgoing)
            os.close(self.incoming)
            work_and_leave(work, Turn(theirs, ours))
        os.close(theirs)
        os.close(ours)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def end(self) -> int:
        """As of any, without `os.waitstatus_to_exitcode`, which is of 3.9."""
        os.close(self.outgoing)
        os.close(self.incoming)
        status = os.waitpid(self.pid, 0)[1]
        return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


class Fresh(_Side):
    """A process that a command starts: it reads its request with `asked`, and goes on as `work_and_leave`."""

    def __init__(self, command: Sequence[str], request: dict[str, Any], wait: Callable[[int], None]) -> None:
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        super().__init__(self.process.stdout.fileno(), self.process.stdin.fileno(), wait)
        with contextlib.suppress(OSError):  # it has ended
            self.process.stdin.write(json.dumps(request).encode() + b"\n")

    def kill(self) -> None:
        self.process.kill()

    def end(self) -> int:
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()
        return self.process.wait()


def asked() -> tuple[dict[str, Any], Turn]:
    """The request of this fresh process, and its turns. What anything else prints goes to stderr from now on."""
    incoming, outgoing = os.dup(0), os.dup(1)
    os.dup2(2, 1)
    line = b""
    while not line.endswith(b"\n"):  # byte by byte: after the line come turns
        part = os.read(incoming, 1)
        if not part:
            os._exit(1)  # nobody asks any more
        line += part
    return json.loads(line), Turn(incoming, outgoing)


def work_and_leave(work: Callable[[Turn], dict[str, Any]], turn: Turn) -> None:
    """What such a process does; it never returns."""
    try:
        turn.take()
        with os.fdopen(turn.outgoing, "w", encoding="utf-8") as stream:
            stream.write(json.dumps(work(turn)))
        os._exit(0)
    finally:
        os._exit(1)


def answers(
    works: Sequence[Any], wait: Callable[[int], None], start: Callable[..., _Side] = Fork
) -> list[dict[str, Any] | int]:
    """What each work returned, or the exit code of a process that crashed; `start(work, wait)` gives the process.

    One after another in the first and in the last turn (where models are loaded); between, as often as one of them needs more, forwards and
    backwards: A B, B A, A B.
    """
    forks = [start(work, wait) for work in works]
    try:
        states = [fork.run() for fork in forks]
        order = list(range(len(forks)))
        while MORE in states and OVER not in states:
            for place in order:
                if states[place]:
                    states[place] = forks[place].run()
            order.reverse()
        for fork, state in zip(forks, states):
            if state:
                fork.run(_LAST)
    except BaseException:
        for fork in forks:
            fork.kill()
        raise
    finally:
        codes = [fork.end() for fork in forks]
    return [json.loads(fork.text) if fork.text and not code else code for fork, code in zip(forks, codes)]
