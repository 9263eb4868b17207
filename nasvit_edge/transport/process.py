"""A runner as a child process: requests in on stdin, answers out on stdout, one JSON object a line."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from nasvit_edge import processes
from nasvit_edge.errors import MeasurementError
from nasvit_edge.transport.answers import Failure, Lost, Message, garbage, parsed

_END_S = 5.0  # what a child that was killed may take to be gone: one that the system holds is left to it


class LineProcess:
    """A child that answers requests one by one; started again where it crashed, hung or got out of step.

    Args:
        command: gives the command line of each start.
        on_error: takes the child's lines on stderr; None throws them away.
    """

    def __init__(
        self, command: Callable[[], Sequence[str]], on_error: Callable[[str], None] | None = None
    ) -> None:
        self.command, self.on_error = command, on_error
        self.process: subprocess.Popen[str] | None = None
        self.lines: queue.Queue[str | None] = queue.Queue()
        self.pumps: list[threading.Thread] = []

    def request(self, request: Message, timeout_s: float) -> Message | Failure:
        """The answer, or why the model, the runner or its output failed; `Lost` where the child died or was given up."""
        if self.process is None or self.process.poll() is not None:
            self._start()
        assert self.process is not None
        assert self.process.stdin is not None
        name, until = str(request["id"]), time.monotonic() + timeout_s
        try:
            _write(self.process.stdin.fileno(), json.dumps(request).encode() + b"\n", until)
            line = self.lines.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            self.close()
            return Lost(id=name, error=f"no answer in {timeout_s:g} s", code=None)
        except BrokenPipeError:
            code = self._exit_code()
            self.close()
            return Lost(id=name, error="the runner died", code=code)
        if line is None:
            code = self._exit_code()
            self.close()
            return Lost(id=name, error=f"the runtime crashed (exit code {code})", code=code)
        answer = parsed(line, name)
        if answer is None:
            self.close()  # out of step: a fresh one
            return garbage(line, name)
        return answer

    def _exit_code(self) -> int | None:
        assert self.process is not None
        try:
            return self.process.wait(timeout=_END_S)
        except subprocess.TimeoutExpired:
            return None

    def close(self) -> None:
        """End the child, whatever it is doing."""
        if self.process is not None:
            processes.end_all(self.process.pid)  # its forks too
            self.process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=_END_S)
            for pump in self.pumps:
                pump.join(1)  # its last words
            for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
                with contextlib.suppress(OSError):
                    if stream is not None:
                        stream.close()
            self.process = None

    def _start(self) -> None:
        self.close()
        command = list(self.command())
        try:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE if self.on_error else subprocess.DEVNULL,
                encoding="utf-8",
                errors="replace",
                start_new_session=processes.SESSION,
                creationflags=processes.GROUP,
            )
        except OSError as error:
            raise MeasurementError(f"the runner does not start: {command[0]!r}: {error.strerror}") from None
        self.lines = queue.Queue()
        put = self.lines.put
        readers: list[tuple[Any, Callable[[Any], None], bool]] = [(self.process.stdout, put, True)]
        if self.on_error:
            readers.append((self.process.stderr, self.on_error, False))
        self.pumps = [threading.Thread(target=_pump, args=args, daemon=True) for args in readers]
        for pump in self.pumps:
            pump.start()


def _write(pipe: int, data: bytes, until: float) -> None:
    """All of it; queue.Empty where the other side does not take it in time, BrokenPipeError where it is gone."""
    done: queue.SimpleQueue[OSError | None] = queue.SimpleQueue()

    def write() -> None:
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(pipe, left) :]
            done.put(None)
        except OSError as error:
            done.put(error)

    threading.Thread(
        target=write, daemon=True
    ).start()  # Windows can neither wait for a pipe nor write to it in part
    if done.get(timeout=max(0.0, until - time.monotonic())):
        raise BrokenPipeError


def _pump(stream: Any, put: Callable[[Any], None], mark_end: bool) -> None:
    with contextlib.suppress(ValueError, OSError):  # closed under us by `close`
        for line in stream:
            put(line)
    if mark_end:
        put(None)
