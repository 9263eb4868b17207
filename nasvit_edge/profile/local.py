"""The local transport: a device's runner as a child process."""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasvit_edge.errors import MeasurementError

MODEL_SECONDS = 120.0  # the longest a model may take; then the runner is restarted


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One model to time; the runner's README has the meaning of the fields."""

    id: str
    model: str
    runtime: str
    threads: int
    runs: int
    seconds: float
    seed: int


class LocalRunner:
    """Answers jobs one by one; survives models that crash or hang the runtime."""

    def __init__(self, program: Path) -> None:
        self.program = program
        self.process: subprocess.Popen[str] | None = None
        self.lines: queue.Queue[str | None] = queue.Queue()

    def measure(self, job: Job, timeout_s: float = MODEL_SECONDS) -> dict[str, Any]:
        """The runner's answer; one with `error` where the model, the runner or its output failed."""
        if self.process is None or self.process.poll() is not None:
            self._start()
        assert self.process is not None
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps({n: getattr(job, n) for n in Job.__slots__}) + "\n")
            self.process.stdin.flush()
            line = self.lines.get(timeout=timeout_s)
        except (BrokenPipeError, queue.Empty) as problem:
            self.close()
            slow = isinstance(problem, queue.Empty)
            return _failed(job, f"no answer in {timeout_s:g} s" if slow else "the runner died")
        if line is None:
            code = self.process.wait()
            self.close()
            return _failed(job, f"the runtime crashed (exit code {code})")
        answer = _parsed(line, job)
        if "error" in answer and answer.get("garbage"):
            self.close()  # out of step: a fresh one
        return answer

    def close(self) -> None:
        """End the child, whatever it is doing."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            for stream in (self.process.stdin, self.process.stdout):
                with contextlib.suppress(OSError):
                    if stream is not None:
                        stream.close()
            self.process = None

    def _start(self) -> None:
        self.close()
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-u", str(self.program)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                errors="replace",
            )
        except OSError as error:
            raise MeasurementError(
                f"the runner {str(self.program)!r} does not start: {error.strerror}"
            ) from None
        self.lines = queue.Queue()
        threading.Thread(target=_pump, args=(self.process.stdout, self.lines), daemon=True).start()


@contextlib.contextmanager
def local_runner(program: Path) -> Iterator[LocalRunner]:
    """A runner that is gone afterwards, also after Ctrl-C."""
    runner = LocalRunner(program)
    try:
        yield runner
    finally:
        runner.close()


def _pump(stream: Any, lines: queue.Queue[str | None]) -> None:
    with contextlib.suppress(ValueError, OSError):  # closed under us by `close`
        for line in stream:
            lines.put(line)
    lines.put(None)


def _parsed(line: str, job: Job) -> dict[str, Any]:
    """An answer to `job`, or an error: garbage is never taken for a number."""
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict) or answer.get("id") != job.id:
        return _failed(job, f"the runner answered with {line[:80].strip()!r}") | {"garbage": True}
    if "error" in answer:
        return _failed(job, str(answer["error"]))
    samples = answer.get("samples_us")
    good = isinstance(samples, list) and len(samples) >= 1 and all(_is_latency(s) for s in samples)
    if not good or not isinstance(answer.get("runtime_version"), str):
        return _failed(job, f"the runner's samples are no latencies: {line[:80].strip()!r}") | {
            "garbage": True
        }
    return answer


def _is_latency(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e10


def _failed(job: Job, reason: str) -> dict[str, Any]:
    return {"id": job.id, "error": reason}
