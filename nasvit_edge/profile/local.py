"""The local transport: a device's runner as a child process."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
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
    cores: tuple[int, ...]
    runs: int
    seconds: float
    most_seconds: float
    precision: float
    seed: int


class LocalRunner:
    """Answers jobs one by one; survives models that crash or hang the runtime."""

    def __init__(self, program: Path) -> None:
        self.program = program
        self.process: subprocess.Popen[str] | None = None
        self.lines: queue.Queue[str | None] = queue.Queue()

    def measure(self, job: Job, timeout_s: float = MODEL_SECONDS) -> dict[str, Any]:
        """The runner's answer; one with `error` where the model, the runner or its output failed."""
        request = {name: getattr(job, name) for name in Job.__slots__}
        answer = self._request(request, timeout_s)
        if "error" in answer:
            return answer
        return _measurement(answer, job.id)

    def about(self, timeout_s: float = 30.0) -> dict[str, Any]:
        """`about`: what the device is; `busy_cores`: how many cores others keep busy, None if unknown.

        Raises:
            MeasurementError: the runner does not say.
        """
        answer = self._request({"id": "about", "ask": "about"}, timeout_s)
        if not isinstance(answer.get("about"), dict):
            reason = answer.get("error", "no description of the device")
            raise MeasurementError(f"the runner {str(self.program)!r} does not answer: {reason}")
        busy = answer.get("busy_cores")
        return {"about": answer["about"], "busy_cores": busy if isinstance(busy, int | float) else None}

    def _request(self, request: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        if self.process is None or self.process.poll() is not None:
            self._start()
        assert self.process is not None
        assert self.process.stdin is not None
        name = str(request["id"])
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            line = self.lines.get(timeout=timeout_s)
        except (BrokenPipeError, queue.Empty) as problem:
            self.close()
            slow = isinstance(problem, queue.Empty)
            return _failed(name, f"no answer in {timeout_s:g} s" if slow else "the runner died")
        if line is None:
            code = self.process.wait()
            self.close()
            return _failed(name, f"the runtime crashed (exit code {code})")
        answer = _parsed(line, name)
        if answer.get("garbage"):
            self.close()  # out of step: a fresh one
        return answer

    def close(self) -> None:
        """End the child, whatever it is doing."""
        if self.process is not None:
            with contextlib.suppress(OSError, AttributeError):
                os.killpg(self.process.pid, signal.SIGKILL)  # its forks too
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
                start_new_session=True,
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


def fastest_cores(threads: int) -> tuple[int, ...]:
    """The cores to run on: the fastest, the last of equals; none (wherever the system likes) where all are needed."""
    try:
        usable = sorted(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return ()
    if threads >= len(usable):
        return ()
    return tuple(sorted(sorted(usable, key=lambda core: (_clock(core), core))[-threads:]))


def _clock(core: int) -> int:
    try:
        return int(Path(f"/sys/devices/system/cpu/cpu{core}/cpufreq/cpuinfo_max_freq").read_text())
    except (OSError, ValueError):
        return 0


def _parsed(line: str, name: str) -> dict[str, Any]:
    """An answer to `name`, or an error: garbage is never taken for a number."""
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict) or answer.get("id") != name:
        return _failed(name, f"the runner answered with {line[:80].strip()!r}") | {"garbage": True}
    return _failed(name, str(answer["error"])) if "error" in answer else answer


def _measurement(answer: dict[str, Any], name: str) -> dict[str, Any]:
    """The known fields of a measurement, each of its kind; an error where there are no latencies."""
    samples = answer.get("samples_us")
    good = isinstance(samples, list) and len(samples) >= 1 and all(_is_latency(s) for s in samples)
    if not good or not isinstance(answer.get("runtime_version"), str):
        return _failed(name, f"the runner's samples are no latencies: {str(samples)[:80]!r}")
    found = {"id": name, "samples_us": samples, "runtime_version": answer["runtime_version"]}
    for key in ("load_ms", "first_ms", "cpu_share"):
        if _is_latency(answer.get(key)):
            found[key] = answer[key]
    if type(answer.get("inner")) is int and answer["inner"] > 0:
        found["inner"] = answer["inner"]
    return found | {key: _state(answer[key]) for key in ("before", "after") if key in answer}


def _state(value: Any) -> dict[str, Any]:
    """Clocks and temperature as the device told them; nothing where that is not what it told."""
    if not isinstance(value, dict):
        return {}
    clocks = value.get("clocks_mhz")
    found: dict[str, Any] = {}
    if isinstance(clocks, list) and clocks and all(_is_latency(c) for c in clocks):
        found["clocks_mhz"] = clocks
    if _is_latency(value.get("hottest_c")):
        found["hottest_c"] = value["hottest_c"]
    return found


def _is_latency(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e10


def _failed(name: str, reason: str) -> dict[str, Any]:
    return {"id": name, "error": reason}
