"""Core ML, and how a model is timed: one call, warm-up, samples with a stop rule, or windows of a sustained run."""

from __future__ import annotations

import math
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mac_runner.machine import flags, state, system

UNITS = {
    "all": "ALL",
    "cpuAndNeuralEngine": "CPU_AND_NE",
    "cpuAndGPU": "CPU_AND_GPU",
    "cpuOnly": "CPU_ONLY",
}
_SAMPLE_NS = 500_000  # aim: a sample lasts at least this long, far above the clock's step
_WARM_RUNS, _WARM_SECONDS = 5, 0.1  # clocks rise slowly
_KEPT = 5000  # samples of a sustained run that are sent, evenly spread
Feed = dict[str, "np.ndarray[Any, np.dtype[np.float32]]"]
Open = Callable[[Path, str, Feed], tuple[Callable[[], object], dict[str, float]]]


def core_ml(package: Path, units: str, feed: Feed) -> tuple[Callable[[], object], dict[str, float]]:
    """A function that predicts once, and what compiling and loading took in ms."""
    import coremltools as ct

    start = time.perf_counter_ns()
    compiled = ct.models.utils.compile_model(str(package), str(package.with_suffix(".mlmodelc")))
    compiled_ns = time.perf_counter_ns()
    model = ct.models.CompiledMLModel(compiled, compute_units=getattr(ct.ComputeUnit, UNITS[units]))
    loaded = time.perf_counter_ns()
    return lambda: model.predict(feed), {
        "compile_ms": (compiled_ns - start) / 1e6,
        "load_ms": (loaded - compiled_ns) / 1e6,
    }


def lacking() -> str | None:
    """What of Core ML is not here; None where all is."""
    if not platform.mac_ver()[0]:
        return "Core ML runs on macOS only"
    try:
        import coremltools  # noqa: F401
    except Exception as error:
        return f"coremltools does not load ({error}); run: python3 -m pip install coremltools"
    return None


def measure(job: dict[str, Any], package: Path, open_model: Open) -> dict[str, Any]:
    """Load a model, warm it up by count and time, and take samples until the job's conditions are met."""
    value = job["input"]
    values = np.random.default_rng(int(value["fill"].removeprefix("seed:"))).normal(size=value["shape"])
    before = state()
    call, times = open_model(package, job["units"], {value["name"]: values.astype(np.float32)})
    start = time.perf_counter_ns()
    call()
    first = time.perf_counter_ns()
    inner = max(1, math.ceil(_SAMPLE_NS / warm_up(call)))
    if job.get("sustained_s"):
        taken, windows = sustained(call, inner, job["sustained_s"])
    else:
        taken, windows = samples(call, inner, job), []
    after = state()
    return {
        "samples_us": taken,
        "inner": inner,
        "first_ms": (first - start) / 1e6,
        "runtime_version": system(),
        "flags": flags(after),
        "before": before,
        "after": after,
        **times,
        **({"windows": windows} if windows else {}),
    }


def warm_up(call: Callable[[], object]) -> float:
    """Run for a while; the fastest call in ns."""
    fastest, runs, start = math.inf, 0, time.perf_counter()
    while runs < _WARM_RUNS or time.perf_counter() - start < _WARM_SECONDS:
        before = time.perf_counter_ns()
        call()
        fastest = min(fastest, max(1, time.perf_counter_ns() - before))
        runs += 1
    return fastest


def sample(call: Callable[[], object], inner: int) -> float:
    """Microseconds a call, the mean of `inner` calls in a row."""
    before = time.perf_counter_ns()
    for _ in range(inner):
        call()
    return max(0.001, round((time.perf_counter_ns() - before) / inner / 1e3, 3))


def samples(call: Callable[[], object], inner: int, job: dict[str, Any]) -> list[float]:
    """At least `runs` and `seconds`, until the 95 % interval of the median is narrow enough or `most_seconds` are over."""
    taken: list[float] = []
    start = time.perf_counter()
    while True:
        taken.append(sample(call, inner))
        spent = time.perf_counter() - start
        enough = len(taken) >= job["runs"] and spent >= job["seconds"]
        if spent > job["most_seconds"] or (enough and interval(taken) <= job["precision"]):
            return taken


def interval(taken: list[float]) -> float:
    """The width of the 95 % interval of the median (by order statistics), relative to the median."""
    ordered, count = sorted(taken), len(taken)
    reach = 0.98 * math.sqrt(count)
    low, high = math.floor(count / 2 - reach), math.ceil(count / 2 + reach)
    if low < 0 or high >= count:
        return math.inf
    return (ordered[high] - ordered[low]) / ordered[count // 2]


def sustained(
    call: Callable[[], object], inner: int, seconds: float
) -> tuple[list[float], list[list[float]]]:
    """Without a pause: samples (evenly spread where they are many) and windows of a second, [end in s, median in us]."""
    taken: list[float] = []
    windows: list[list[float]] = []
    start = time.perf_counter()
    begun, window = start, len(taken)
    while True:
        taken.append(sample(call, inner))
        now = time.perf_counter()
        over = now - start >= seconds
        if now - begun >= 1 or over:
            windows.append([round(now - start, 3), round(statistics.median(taken[window:]), 3)])
            begun, window = now, len(taken)
        if over:
            return taken[:: math.ceil(len(taken) / _KEPT)], windows
