"""The `benchmark_model` that is pushed to a device: which build it is, its command lines and what their outputs say."""

from __future__ import annotations

import hashlib
import math
import re
import shlex
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nasvit_edge.device import Device
from nasvit_edge.errors import DeviceError, MeasurementError
from nasvit_edge.transport.answers import Message
from nasvit_edge.transport.job import Job
from nasvit_edge.transport.last_words import signal_name
from nasvit_edge.transport.outputs import android
from nasvit_edge.transport.outputs.benchmark_model import Launch, known_flags, lines_of, parse, trouble
from nasvit_edge.transport.outputs.delegation import gpu_fallback, refusal

PAGE = "https://ai.google.dev/edge/litert/next/benchmark"
DIRECT = "https://storage.googleapis.com/litert/binaries/latest/android_arm64/benchmark_model"
NAME = "benchmark_model"
LAUNCHES = 3  # no single samples are printed: a sample is a launch
GPU = "litert-gpu"
_WARM_RUNS, _WARM_S = 3, 0.1  # a phone's clocks take that long to rise
_WINDOW_S = 1.0
_NEEDED = ("graph", "num_threads", "num_runs", "min_secs", "max_secs", "warmup_runs", "warmup_min_secs")


class ToolError(DeviceError):
    """The user's program is not there, or not one that can be used."""


class CrashError(MeasurementError):
    """It died of a signal."""


@dataclass(slots=True)
class Tool:
    """The user's program.

    Attributes:
        path: on this machine.
        flags: what its `--help` lists; empty until it was asked.
    """

    path: Path
    sha256: str
    flags: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, device: Device) -> Tool:
        """The program that a device names, checked against the hash that it names.

        Raises:
            ToolError: it is not there, or another one; says where to get it.
        """
        if not device.tool:
            raise ToolError(
                f"device {device.name!r} names no `tool`",
                f"{_get()}, and give its path as `tool` in device.toml",
            )
        path = Path(device.tool).expanduser()
        try:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise ToolError(
                f"benchmark_model {str(path)!r}: {error.strerror}",
                f"{_get()}, and give its path as `tool` in device.toml",
            ) from None
        if device.tool_sha256 and device.tool_sha256.lower() != digest:
            raise ToolError(
                f"benchmark_model {str(path)!r} has sha256 {digest}, not the {device.tool_sha256!r} of device {device.name!r}",
                "use the build that is meant, or correct `tool_sha256` in device.toml",
            )
        return cls(path, digest)

    @property
    def generation(self) -> str:
        """`litert` or `classic` (TFLite's)."""
        return "litert" if "use_npu" in self.flags and "use_cpu" in self.flags else "classic"

    @property
    def version(self) -> str:
        """What stands in tables as the runtime's version."""
        return f"benchmark_model ({self.generation}) sha256:{self.sha256[:16]}"

    def take_usage(self, usage: str, code: int) -> None:
        """Learn the flags from `--help`; ToolError where that is no such program, or it does not run there."""
        self.flags = known_flags(usage)
        missing = [name for name in _NEEDED if name not in self.flags]
        if missing:
            why = trouble(usage.splitlines())
            name = f"benchmark_model {str(self.path)!r}"
            if "graph" in missing:
                raise ToolError(
                    f"{name} does not run on the device (exit code {code}: {why})",
                    f"take the build for its processor: {_get()}",
                )
            raise ToolError(f"{name} has no flag --{missing[0]}: too old", _get())

    def arguments(self, job: Job, graph: str, result: str, profile: bool = False) -> list[str]:
        """The command line of a launch on the device.

        Raises:
            MeasurementError: this build cannot do what the job asks for.
        """
        sustained = job.sustained_s > 0
        warm_s = _WARM_S if not sustained else 0.0
        seconds = _WINDOW_S if sustained else job.seconds
        options = [
            f"--graph={graph}",
            f"--num_threads={job.threads}",
            f"--num_runs={1 if sustained else job.runs}",
            f"--min_secs={seconds:g}",
            f"--max_secs={max(seconds, job.most_seconds, warm_s):g}",
            f"--warmup_runs={_WARM_RUNS}",
            f"--warmup_min_secs={warm_s:g}",
        ]
        options += self._delegate(job.runtime)
        if "result_file_path" in self.flags:
            options.append(f"--result_file_path={result}")
        if profile:
            options.append(
                "--enable_op_profiling=true" if "enable_op_profiling" in self.flags else "--use_profiler=true"
            )
        return options

    def _delegate(self, runtime: str) -> list[str]:
        if runtime != GPU:
            return (
                ["--use_xnnpack=true"] if self.generation == "classic" and "use_xnnpack" in self.flags else []
            )
        needed = {"use_gpu", "require_full_delegation"}
        if not needed <= self.flags:
            raise MeasurementError(
                f"this benchmark_model has no --{sorted(needed - self.flags)[0]}: {_get()}"
            )
        cpu = ["--use_cpu=false"] if self.generation == "litert" else []  # nothing to fall back to
        return ["--use_gpu=true", *cpu, "--require_full_delegation=true"]

    def launch(self, text: str, code: int, result: bytes | None, runtime: str) -> Launch:
        """What a launch measured; MeasurementError where it failed or ran elsewhere than asked."""
        if runtime == GPU:  # where it failed, only a line that says so counts
            lines = lines_of(text)
            why = refusal(lines) if code else gpu_fallback(text, strict=self.generation == "litert")
            if why is not None:
                raise MeasurementError(f"the GPU does not run the whole model: {why!r}")
        if signal_name(code):
            raise CrashError(f"benchmark_model crashed ({signal_name(code)}): {trouble(text.splitlines())}")
        if code:
            raise MeasurementError(f"benchmark_model failed (exit code {code}): {trouble(text.splitlines())}")
        return parse(text, result)


def _get() -> str:
    return f"download it from {PAGE} (for most phones {DIRECT})"


def launches_script(mark: str, command: Sequence[str], clocks: str, sustained_s: float, launches: int) -> str:
    """A loop of launches on the device; each in sections `launch N`, `exit N CODE UPTIME` with the clocks then.

    A launch dies with the shell that made it; its process id is in `pid`, where the shell could not see to that.
    """
    line = " ".join(map(shlex.quote, command))
    now = "read up rest < /proc/uptime || up=$(date +%s)"
    more = (
        f"[ $((${{up%.*}} - begun)) -lt {math.ceil(sustained_s)} ]"
        if sustained_s
        else f"[ $i -lt {launches} ]"
    )
    return "\n".join(
        [
            "trap 'kill -9 $! 2>/dev/null; exit 129' HUP INT TERM",
            f'i=0; {now}; begun=${{up%.*}}; echo; echo "{mark} begun $up"',
            f"while {more}; do",
            "i=$((i+1)); rm -f result",
            f'echo; echo "{mark} launch $i"',
            f"{line} & echo $! > pid; wait $!; code=$?",
            now,
            f'echo; echo "{mark} exit $i $code $up"; {clocks}',
            f'[ -f result ] && mv result result-$i && echo "{mark} file $i"',
            "[ $code -eq 0 ] || break",
            "done",
            "rm -f pid",
        ]
    )


@dataclass(frozen=True, slots=True)
class Ended:
    """A launch: what it printed, how it ended, when (seconds since the start), the clocks then, and if it wrote a result file."""

    number: int
    text: str
    code: int
    at_s: float
    clocks: dict[int, int]
    wrote: bool


def ended(parts: dict[str, str]) -> list[Ended]:
    """The launches in an output that was divided by `sections`; MeasurementError where it is none of `launches_script`."""
    begun_at = next((key.split()[1] for key in parts if re.fullmatch(r"begun [0-9.]+", key)), None)
    ends = []
    for key, rest in parts.items():
        match = re.fullmatch(r"exit (\d+) (\d+) ([0-9.]+)", key)
        if match and begun_at is not None and f"launch {match[1]}" in parts:
            at_s = float(match[3]) - float(begun_at)
            text = parts[f"launch {match[1]}"]
            ends.append(
                Ended(
                    int(match[1]),
                    text,
                    int(match[2]),
                    at_s,
                    android.clocks_mhz(rest),
                    f"file {match[1]}" in parts,
                )
            )
    if not ends:
        raise MeasurementError(
            f"benchmark_model was not launched: {trouble(' '.join(parts.values()).splitlines())}"
        )
    return ends


def figures(launches: Sequence[Launch], ends: Sequence[Ended], sustained: bool) -> Message:
    """The numbers of a measurement: a sample a launch."""
    samples = [round(launch.latency_us, 3) for launch in launches]
    message: Message = {
        "samples_us": samples,
        "inner": min(launch.count for launch in launches),
        "load_ms": statistics.median(launch.init_us for launch in launches) / 1e3,
        "first_ms": statistics.median(launch.first_us for launch in launches) / 1e3,
        "clock_us": max(launch.step_us for launch in launches),
    }
    if sustained:
        message["windows"] = [[round(end.at_s, 2), us] for end, us in zip(ends, samples, strict=True)]
    return message
