"""Models in processes of their own: forks in which nothing else has run. Several take turns, so only one runs at a time.

A fork waits for its first turn before it begins. Work that knows of turns gives up each one with `Turn.give` and waits for the next in
`Turn.take`; other work is done in its first turn. Standard library of Python 3.8.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

MORE, ENOUGH, OVER = b"m", b"e", b"o"  # what a fork says at the end of a turn: over, whatever the others need
_GO, _LAST, _DONE = b"g", b"l", b""


class Turn:
    """A fork's side: it runs between `take` and `give`, while the others wait."""

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


class Fork:
    """The other side.

    Args:
        work: called in the fork; returns what can be JSON.
        wait: returns when there is something to read from a pipe.
    """

    def __init__(self, work: Callable[[Turn], dict[str, Any]], wait: Callable[[int], None]) -> None:
        self.wait, self.text = wait, b""
        theirs, self.outgoing = os.pipe()
        self.incoming, ours = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self.outgoing)
            os.close(self.incoming)
            _work(work, Turn(theirs, ours))
        os.close(theirs)
        os.close(ours)

    def run(self, word: bytes = _GO) -> bytes:
        """Let it have its turn; what it said at the end, nothing where it has answered or ended."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self.outgoing, word)
        while True:
            self.wait(self.incoming)
            part = os.read(self.incoming, 1 << 16)
            if not self.text and part in (MORE, ENOUGH, OVER):
                return part
            if not part:
                return _DONE
            self.text += part

    def end(self) -> int:
        """Its exit code, negative for a signal (`os.waitstatus_to_exitcode` of 3.9), once its last turn is over."""
        os.close(self.outgoing)
        os.close(self.incoming)
        status = os.waitpid(self.pid, 0)[1]
        return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def _work(work: Callable[[Turn], dict[str, Any]], turn: Turn) -> None:
    """What a fork does; it never returns."""
    try:
        turn.take()
        with os.fdopen(turn.outgoing, "w") as stream:
            stream.write(json.dumps(work(turn)))
        os._exit(0)
    finally:
        os._exit(1)


def answers(
    works: list[Callable[[Turn], dict[str, Any]]], wait: Callable[[int], None]
) -> list[dict[str, Any] | int]:
    """What each work returned, or the exit code of a fork that crashed.

    One after another in the first and in the last turn (where models are loaded); between, as often as one of them needs more, forwards and
    backwards: A B, B A, A B.
    """
    forks = [Fork(work, wait) for work in works]
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
            os.kill(fork.pid, signal.SIGKILL)
        raise
    finally:
        codes = [fork.end() for fork in forks]
    return [json.loads(fork.text) if fork.text and not code else code for fork, code in zip(forks, codes)]
