"""Times models on the machine it runs on: requests in on stdin, answers out on stdout, one JSON object a line.

Needs Python 3.8, and numpy with onnxruntime, ai-edge-litert or tflite-runtime; without them it only says what the machine
is. Only the model call is timed: inputs are made and bound before. See README.md for the fields.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import json
import math
import os
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SAMPLE_NS = 500_000  # aim: a sample lasts at least this long, far above the clock's step
_WARM_RUNS, _WARM_SECONDS = 3, 0.01
_WINDOW_S, _KEPT = 1.0, 20  # of a sustained run: a window's length, and how many of its samples are kept
_CPU = Path("/sys/devices/system/cpu")


def onnxruntime_call(path: str, threads: int, seed: int) -> tuple[Callable[[], object], str]:
    """A function that runs the model once on bound inputs, and the runtime's version."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    for value in session.get_inputs():
        shape = [n if isinstance(n, int) else 1 for n in value.shape]
        binding.bind_cpu_input(value.name, inputs(shape, seed))
    for value in session.get_outputs():
        binding.bind_output(value.name)
    return lambda: session.run_with_iobinding(binding), str(ort.__version__)


def litert_call(path: str, threads: int, seed: int) -> tuple[Callable[[], object], str]:
    """A function that runs the model once on inputs already set, and the runtime's version."""
    try:
        from ai_edge_litert.interpreter import Interpreter

        package = "ai-edge-litert"
    except ImportError:  # older devices have only this
        from tflite_runtime.interpreter import Interpreter

        package = "tflite-runtime"
    interpreter = Interpreter(model_path=path, num_threads=threads)
    interpreter.allocate_tensors()
    for value in interpreter.get_input_details():
        interpreter.set_tensor(value["index"], inputs(list(value["shape"]), seed))
    return interpreter.invoke, importlib.metadata.version(package)


def load_onnxruntime() -> None:
    """Import the runtime."""
    import onnxruntime  # noqa: F401


def load_litert() -> None:
    """Import the runtime."""
    try:
        import ai_edge_litert.interpreter  # noqa: F401
    except ImportError:
        import tflite_runtime.interpreter  # noqa: F401


PRELOAD = {"onnxruntime": load_onnxruntime, "litert": load_litert}
PACKAGES = {"onnxruntime": ("onnxruntime", "onnxruntime-gpu"), "litert": ("ai-edge-litert", "tflite-runtime")}
RUNTIMES = {"onnxruntime": onnxruntime_call, "litert": litert_call}
MEASURES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {}  # runtimes that time themselves


@contextlib.contextmanager
def watch(_job: dict[str, Any], _found: dict[str, Any]) -> Iterator[None]:
    """Around what is timed; a board that reads its power puts another in place."""
    yield


WATCH = [watch]


def inputs(shape: list[int], seed: int) -> Any:
    """Seeded normal float32 values: zeros would make some kernels look fast."""
    import numpy as np

    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """Load a model, warm it up by count and time, and take samples until the job's conditions are met."""
    if job.get("cores"):
        pin(job["cores"])
    before = state()
    resident = memory("VmRSS")
    if job.get("detail"):
        forget(job["model"])
    start = time.perf_counter_ns()
    call, version = RUNTIMES[job["runtime"]](job["model"], job["threads"], job["seed"])
    loaded = time.perf_counter_ns()
    call()  # packs weights: counted apart
    first = time.perf_counter_ns()
    inner = max(1, math.ceil(_SAMPLE_NS / warm_up(call)))
    found: dict[str, Any] = {}
    with WATCH[-1](job, found):
        busy, begun = time.process_time(), time.perf_counter()
        if job.get("sustained_s"):
            taken, found["windows"] = sustained(call, inner, job["sustained_s"])
        else:
            taken = samples(call, inner, job)
        share = (time.process_time() - busy) / max(time.perf_counter() - begun, 1e-9)
    after = state()
    if job.get("detail"):
        found.update(detail(job, resident))
    return {
        **found,
        "id": job["id"],
        "samples_us": taken,
        "inner": inner,
        "load_ms": (loaded - start) / 1e6,
        "first_ms": (first - loaded) / 1e6,
        "runtime_version": version,
        "cpu_share": round(share, 3),
        "before": before,
        "after": after,
    }


def detail(job: dict[str, Any], resident: int) -> dict[str, float]:
    """What the model added to the process at its peak, and how long a second load takes; what the system tells of it."""
    peak = memory("VmHWM")
    start = time.perf_counter_ns()
    RUNTIMES[job["runtime"]](job["model"], job["threads"], job["seed"])
    found = {"warm_load_ms": (time.perf_counter_ns() - start) / 1e6}
    return {**found, "memory_bytes": peak - resident} if peak > resident > 0 else found


def forget(model: str) -> None:
    """Have the system read a model from its disk the next time, as after a start of the device."""
    path = Path(model)
    with contextlib.suppress(OSError, AttributeError):  # the latter: not Linux
        for file in path.rglob("*") if path.is_dir() else [path]:
            with file.open("rb") as stream:
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def memory(field: str) -> int:
    """A field of /proc/self/status in bytes; 0 where there is none."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1]) * 1024
    return 0


def pin(cores: list[int]) -> None:
    """Stay on these cores, where the platform allows it; threads of the runtime inherit it."""
    with contextlib.suppress(AttributeError, OSError):
        os.sched_setaffinity(0, cores)


def warm_up(call: Callable[[], object]) -> float:
    """Run for a while; the fastest call in ns."""
    fastest, runs, start = math.inf, 0, time.perf_counter()
    while runs < _WARM_RUNS or time.perf_counter() - start < _WARM_SECONDS:
        before = time.perf_counter_ns()
        call()
        fastest = min(fastest, max(1, time.perf_counter_ns() - before))
        runs += 1
    return fastest


def samples(call: Callable[[], object], inner: int, job: dict[str, Any]) -> list[float]:
    """Microseconds a call, each the mean of `inner` calls in a row.

    Stops after at least `runs` samples and `seconds`, once the 95 % interval of the median is narrower than
    `precision` of it, but never later than `most_seconds`.
    """
    taken: list[float] = []
    start = time.perf_counter()
    while True:
        before = time.perf_counter_ns()
        for _ in range(inner):
            call()
        taken.append(round((time.perf_counter_ns() - before) / inner / 1e3, 3))
        spent = time.perf_counter() - start
        enough = len(taken) >= job["runs"] and spent >= job["seconds"]
        if spent > job["most_seconds"] or (enough and interval(taken) <= job["precision"]):
            return taken


def sustained(
    call: Callable[[], object], inner: int, seconds: float
) -> tuple[list[float], list[list[float]]]:
    """Run without a pause: some samples of each second, and windows [seconds since the start, median in us]."""
    kept: list[float] = []
    windows: list[list[float]] = []
    start = edge = time.perf_counter()
    while edge - start < seconds:
        window: list[float] = []
        now = edge
        while now - edge < _WINDOW_S:
            before = time.perf_counter_ns()
            for _ in range(inner):
                call()
            window.append((time.perf_counter_ns() - before) / inner / 1e3)
            now = time.perf_counter()
        edge = now
        windows.append([round(edge - start, 3), round(statistics.median(window), 3)])
        kept += [round(sample, 3) for sample in window[:: math.ceil(len(window) / _KEPT)]]
    return kept, windows


def interval(taken: list[float]) -> float:
    """The width of the 95 % interval of the median (by order statistics), relative to the median."""
    ordered, count = sorted(taken), len(taken)
    reach = 0.98 * math.sqrt(count)
    low, high = math.floor(count / 2 - reach), math.ceil(count / 2 + reach)
    if low < 0 or high >= count:
        return math.inf
    return (ordered[high] - ordered[low]) / ordered[count // 2]


def about() -> dict[str, Any]:
    """What this machine is; a field that the platform does not give is left out."""
    board = first_line("/proc/device-tree/model", "/sys/devices/virtual/dmi/id/product_name")
    found = {
        "board": board,
        "soc": processor(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "os": " ".join(part for part in (os_build(), platform.release()) if part),
        "governor": first_line(_CPU / "cpu0/cpufreq/scaling_governor"),
        "highest_clock_mhz": khz(first_line(_CPU / "cpu0/cpufreq/cpuinfo_max_freq")),
        "python": platform.python_version(),
    }
    return {key: value for key, value in found.items() if value}


def runtimes() -> dict[str, str]:
    """The runtimes that are here, with their versions; none without numpy, which each needs for its inputs."""
    found: dict[str, str] = {}
    if importlib.util.find_spec("numpy") is None:
        return found
    for name, packages in PACKAGES.items():
        for package in packages:
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                found.setdefault(name, importlib.metadata.version(package))
    return found


def state() -> dict[str, Any]:
    """Clocks and temperatures now, where the machine gives them."""
    clocks = [khz(first_line(path)) for path in sorted(_CPU.glob("cpu[0-9]*/cpufreq/scaling_cur_freq"))]
    zones = [first_line(path) for path in Path("/sys/class/thermal").glob("thermal_zone*/temp")]
    celsius = [int(zone) / 1000 for zone in zones if zone.lstrip("-").isdigit()]
    found = {"clocks_mhz": [c for c in clocks if c], "hottest_c": max(celsius, default=None)}
    return {key: value for key, value in found.items() if value}


def busy_cores(seconds: float = 0.5) -> float | None:
    """How many cores others keep busy (steal by a hypervisor included); None where the system does not say."""
    before = cpu_times()
    time.sleep(seconds)
    after = cpu_times()
    if before is None or after is None or after[1] <= before[1]:
        return None
    return (after[0] - before[0]) / (after[1] - before[1]) * (os.cpu_count() or 1)


def cpu_times() -> tuple[int, int] | None:
    """(busy, all) jiffies since boot."""
    fields = first_line("/proc/stat").split()[1:9]
    if not fields:
        return None
    values = [int(field) for field in fields]
    return sum(values) - values[3] - values[4], sum(values)


def processor() -> str:
    """The name of the processor, or of the chip where the device tree says it."""
    with contextlib.suppress(OSError):
        names = Path("/proc/device-tree/compatible").read_text(errors="replace").strip("\0").split("\0")
        if names[-1]:
            return names[-1]
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("model name", "Hardware", "Model")):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def os_build() -> str:
    """The name of the operating system and its version."""
    with contextlib.suppress(OSError, AttributeError):
        return platform.freedesktop_os_release().get("PRETTY_NAME", "")
    return platform.platform()


def first_line(*paths: str | Path) -> str:
    """The first line of the first of these files that can be read; empty where none can."""
    for path in paths:
        with contextlib.suppress(OSError):
            return Path(path).read_text(errors="replace").split("\n")[0].strip("\0 ")
    return ""


def khz(text: str) -> int | None:
    """kHz as text to MHz."""
    return int(text) // 1000 if text.isdigit() else None


def isolated(request: dict[str, Any], wait: Callable[[int], None] = lambda pipe: None) -> dict[str, Any]:
    """`answer` from a fork of this process, in which no other model has run: memory as an app finds it.

    A model that crashes the runtime takes only the fork with it. `wait` returns when there is something to read.
    """
    if not hasattr(os, "fork"):
        return caught(request)
    try:
        PRELOAD.get(request["runtime"], lambda: None)()
    except Exception as error:
        return {"id": request["id"], "error": f"runtime {request['runtime']!r} does not load: {error}"}
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        with os.fdopen(write, "w") as stream:
            stream.write(json.dumps(caught(request)))
        os._exit(0)
    os.close(write)
    text = all_of(read, wait)
    status = exit_code(os.waitpid(child, 0)[1])
    if not text or status:
        return {"id": request["id"], "error": f"the runtime crashed (exit code {status})"}
    found: dict[str, Any] = json.loads(text)
    return found


def all_of(pipe: int, wait: Callable[[int], None]) -> bytes:
    """What comes through a pipe until its other end is closed."""
    parts: list[bytes] = []
    while True:
        wait(pipe)
        part = os.read(pipe, 1 << 16)
        if not part:
            os.close(pipe)
            return b"".join(parts)
        parts.append(part)


def exit_code(status: int) -> int:
    """What `os.waitpid` gave as an exit code, negative for a signal (`os.waitstatus_to_exitcode` of 3.9)."""
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def caught(request: dict[str, Any]) -> dict[str, Any]:
    """`answer`, or the error as an answer."""
    try:
        return answer(request)
    except Exception as error:
        text = " ".join(str(error).split())[:300] or type(error).__name__
        return {"id": request["id"], "error": text}


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """The answer to one request: a measurement, or what was asked of the machine."""
    if request.get("ask") == "about":
        return {"id": request["id"], "about": about(), "busy_cores": busy_cores(), "runtimes": runtimes()}
    return MEASURES.get(request["runtime"], measure)(request)


def main() -> None:
    """Answer each request with one line; a model that fails is a line with its error."""
    lines = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a runtime prints goes to stderr, not between the results
    for line in sys.stdin:
        request = json.loads(line)
        result = isolated(request) if "model" in request else caught(request)
        lines.write(json.dumps(result) + "\n")
        lines.flush()


if __name__ == "__main__":
    main()
