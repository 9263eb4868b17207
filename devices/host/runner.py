"""Times models on the machine it runs on: requests in on stdin, answers out on stdout, one JSON object a line.

Needs Python 3.8, and numpy with onnxruntime, ai-edge-litert or tflite-runtime; without them it only says what the machine
is. Only the model call is timed: inputs are made and bound before. See README.md for the fields.
"""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import importlib.metadata
import importlib.util
import json
import math
import os
import select
import signal
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import elsewhere
import forks
from machine import about, busy_cores, runtimes, state, unreadable
from reading import text_of
from waiting import CoreTime, rest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SAMPLE_NS = 500_000  # aim: a sample lasts at least this long, far above the clock's step
_WARM_RUNS, _WARM_SECONDS = 3, 0.01
_TURN_S, _TURN_SAMPLES, _AGAIN_S = (
    0.05,
    4,
    0.005,
)  # a turn lasts so long, has so many samples, and is warm after so long
_LOOK_S = 1.0
_ONE_JOB = "--one-job"
_LONGEST = 490  # characters of an error
_WINDOW_S, _KEPT = 1.0, 20  # of a sustained run: a window's length, and how many of its samples are kept


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


def measure(job: dict[str, Any], turn: forks.Turn | None = None) -> dict[str, Any]:
    """Load a model, warm it up by count and time, and take samples until the job's conditions are met."""
    if job.get("cores"):
        pin(job["cores"])
    before = state(job["threads"])
    resident = memory("VmRSS")
    if job.get("detail"):
        forget(job["model"])
    start = time.perf_counter_ns()
    call, version = RUNTIMES[job["runtime"]](job["model"], job["threads"], job["seed"])
    loaded = time.perf_counter_ns()
    call()  # packs weights: counted apart
    first = time.perf_counter_ns()
    inner = max(1, math.ceil(_SAMPLE_NS / warm_up(call)))
    message: dict[str, Any] = {}
    core_time = CoreTime()
    if turn is not None:
        taken, message["turns"] = in_turns(call, inner, job, turn, core_time)
    else:
        taken = at_once(call, inner, job, message, core_time)
    after = state(job["threads"])
    if job.get("detail"):
        message.update(detail(job, resident))
    return {
        **message,
        "id": job["id"],
        "samples_us": taken,
        "inner": inner,
        "load_ms": (loaded - start) / 1e6,
        "first_ms": (first - loaded) / 1e6,
        "runtime_version": version,
        **core_time.shares(),
        "before": before,
        "after": after,
    }


def at_once(
    call: Callable[[], object],
    inner: int,
    job: dict[str, Any],
    message: dict[str, Any],
    core_time: CoreTime,
) -> list[float]:
    """Samples without a pause."""
    with WATCH[-1](job, message), core_time:
        if not job.get("sustained_s"):
            return samples(call, inner, job)
        taken, message["windows"] = sustained(call, inner, job["sustained_s"])
        return taken


def in_turns(
    call: Callable[[], object], inner: int, job: dict[str, Any], turn: forks.Turn, core_time: CoreTime
) -> tuple[list[float], list[int]]:
    """Samples in turns with another model, and how many each turn gave.

    What slows the device for longer than a turn slows both models alike. Stops as `samples` does, in its own time.
    """
    taken: list[float] = []
    counts: list[int] = []
    if job["threads"] > 1:
        rest()
    turn.give(forks.MORE)
    while turn.take():
        warm_up(call, runs=1, seconds=_AGAIN_S)
        before = len(taken)
        with core_time:
            start = time.perf_counter()
            while len(taken) < before + _TURN_SAMPLES or time.perf_counter() - start < _TURN_S:
                taken.append(sample(call, inner))
        spent = core_time.spent_s
        counts.append(len(taken) - before)
        over, done = spent > job["most_seconds"], enough(taken, spent, job)
        if job["threads"] > 1:
            rest()
        turn.give(forks.OVER if over else forks.ENOUGH if done else forks.MORE)
    return taken, counts


def detail(job: dict[str, Any], resident: int) -> dict[str, float]:
    """What the model added to the process at its peak, and how long a second load takes; what the system tells of it."""
    peak = memory("VmHWM")
    start = time.perf_counter_ns()
    RUNTIMES[job["runtime"]](job["model"], job["threads"], job["seed"])
    figures = {"warm_load_ms": (time.perf_counter_ns() - start) / 1e6}
    return {**figures, "memory_bytes": peak - resident} if peak > resident > 0 else figures


def forget(model: str) -> None:
    """Have the system read a model from its disk the next time, as after a start of the device."""
    path = Path(model)
    with contextlib.suppress(OSError, AttributeError):  # the latter: not Linux
        for file in path.rglob("*") if path.is_dir() else [path]:
            with file.open("rb") as stream:
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def memory(field: str) -> int:
    """A field of /proc/self/status in bytes, or what another system tells; 0 where it is not told."""
    with contextlib.suppress(ValueError, IndexError):
        for line in text_of("/proc/self/status").splitlines():
            if line.startswith(field):
                return int(line.split()[1]) * 1024
    size: int = elsewhere.memory(field)
    return size


def pin(cores: list[int]) -> None:
    """Stay on these cores, where the platform allows it; threads of the runtime inherit it."""
    with contextlib.suppress(AttributeError, OSError):
        os.sched_setaffinity(0, cores)


def warm_up(call: Callable[[], object], runs: int = _WARM_RUNS, seconds: float = _WARM_SECONDS) -> float:
    """Run for a while; the fastest call in ns."""
    fastest, done, start = math.inf, 0, time.perf_counter()
    while done < runs or time.perf_counter() - start < seconds:
        before = time.perf_counter_ns()
        call()
        fastest = min(fastest, max(1, time.perf_counter_ns() - before))
        done += 1
    return fastest


def sample(call: Callable[[], object], inner: int) -> float:
    """Microseconds a call: the mean of `inner` calls in a row."""
    before = time.perf_counter_ns()
    for _ in range(inner):
        call()
    return round((time.perf_counter_ns() - before) / inner / 1e3, 3)


def enough(taken: list[float], spent: float, job: dict[str, Any]) -> bool:
    """Whether there are `runs` samples, of `seconds`, and the 95 % interval of their median is narrower than `precision` of it."""
    return bool(len(taken) >= job["runs"] and spent >= job["seconds"]) and interval(taken) <= job["precision"]


def samples(call: Callable[[], object], inner: int, job: dict[str, Any]) -> list[float]:
    """As many as are `enough`, but none that begins later than `most_seconds`."""
    taken: list[float] = []
    start = time.perf_counter()
    while True:
        taken.append(sample(call, inner))
        spent = time.perf_counter() - start
        if spent > job["most_seconds"] or enough(taken, spent, job):
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
            window.append(sample(call, inner))
            now = time.perf_counter()
        edge = now
        windows.append([round(edge - start, 3), round(statistics.median(window), 3)])
        kept += window[:: math.ceil(len(window) / _KEPT)]
    return kept, windows


def interval(taken: list[float]) -> float:
    """The width of the 95 % interval of the median (by order statistics), relative to the median."""
    ordered, count = sorted(taken), len(taken)
    reach = 0.98 * math.sqrt(count)
    low, high = math.floor(count / 2 - reach), math.ceil(count / 2 + reach)
    if low < 0 or high >= count:
        return math.inf
    return (ordered[high] - ordered[low]) / ordered[count // 2]


def isolated(request: dict[str, Any], wait: Callable[[int], None] = lambda pipe: None) -> dict[str, Any]:
    """The answer from a process of its own, in which no other model has run: memory as an app finds it.

    A model that crashes the runtime takes only that process with it. Several `jobs` get one each, and take turns. `wait` returns when
    there is something to read.
    """
    # what was sent as text has no file that could be started
    apart = forked if forks.FORKS or "__file__" not in globals() else fresh
    if "jobs" not in request:
        return in_words([request], apart([request], wait))[0]
    return {"id": request["id"], "answers": in_words(request["jobs"], apart(request["jobs"], wait))}


@functools.lru_cache
def look() -> None:
    """Read the machine's state once: a sensor that never answers is waited for here, and in no fork."""
    state()


def forked(jobs: list[dict[str, Any]], wait: Callable[[int], None]) -> list[dict[str, Any] | int]:
    """The answer to each job by a fork of this process, or its exit code."""
    look()
    for job in jobs:
        failure = preloaded(job)
        if failure is not None:
            return [{**failure, "id": each["id"]} for each in jobs]
    alone = len(jobs) == 1

    def work(job: dict[str, Any]) -> Callable[[forks.Turn], dict[str, Any]]:
        return lambda turn: caught(job, None if alone else turn)

    answers: list[dict[str, Any] | int] = forks.answers([work(job) for job in jobs], wait)
    return answers


def fresh(jobs: list[dict[str, Any]], wait: Callable[[int], None]) -> list[dict[str, Any] | int]:
    """As `forked`, by this program started anew for each job."""
    command = [sys.executable, "-u", __file__, _ONE_JOB]
    asked = [{"job": job, "alone": len(jobs) == 1} for job in jobs]
    answers: list[dict[str, Any] | int] = forks.answers(
        asked, wait, lambda request, wait: forks.Fresh(command, request, wait)
    )
    return answers


def one_job() -> None:
    """What the program does that `fresh` starts."""
    request, turn = forks.asked()
    job = request["job"]
    failure = preloaded(job)
    forks.work_and_leave(lambda turn: failure or caught(job, None if request["alone"] else turn), turn)


def preloaded(job: dict[str, Any]) -> dict[str, Any] | None:
    """Import the job's runtime before memory is looked at; the answer where it does not load."""
    try:
        PRELOAD.get(job["runtime"], lambda: None)()
    except Exception as error:
        return {"id": job["id"], "error": f"runtime {job['runtime']!r} does not load: {error}"}
    return None


def in_words(jobs: list[dict[str, Any]], answers: list[dict[str, Any] | int]) -> list[dict[str, Any]]:
    """Answers, with exit codes in words."""
    return [
        {"id": job["id"], "error": f"the runtime crashed ({ending(part)})"} if isinstance(part, int) else part
        for job, part in zip(jobs, answers)
    ]


def ending(code: int) -> str:
    """An exit code, negative for a signal, as a person reads it."""
    with contextlib.suppress(ValueError):
        return signal.Signals(-code).name
    return f"exit code {code}"


def caught(request: dict[str, Any], turn: forks.Turn | None = None) -> dict[str, Any]:
    """`answer`, or the error as an answer."""
    try:
        return answer(request, turn)
    except Exception as error:
        text = " ".join(str(error).split())[:_LONGEST] or type(error).__name__
        return {"id": request["id"], "error": text}


def answer(request: dict[str, Any], turn: forks.Turn | None = None) -> dict[str, Any]:
    """The answer to one request: a measurement, or what was asked of the machine."""
    if request.get("ask") == "about":
        facts = {
            "about": about(request.get("cores") or ()),
            "busy_cores": busy_cores(),
            "runtimes": runtimes(),
            "conditions": {**unreadable(), **elsewhere.missing()},
        }
        return {"id": request["id"], **facts, "turns": True}
    measurer = MEASURES.get(request["runtime"])
    return measure(request, turn) if measurer is None else measurer(request)


def while_asked(pipe: int, parent: int) -> None:
    """Until there is something in `pipe`; where `parent`, which asked, is gone by then, this process ends with its forks."""
    if sys.platform == "win32":
        return  # pipes cannot be waited for, and whoever ends this program there ends what it started
    while not select.select([pipe], [], [], _LOOK_S)[0]:
        if os.getppid() != parent:
            if os.getpgrp() == os.getpid():
                os.killpg(0, signal.SIGKILL)
            os._exit(1)


def main() -> None:
    """Answer each request with one line; a model that fails is a line with its error."""
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a runtime prints goes to stderr, not between the results
    faulthandler.enable()  # tells the signal that it dies of
    parent = os.getppid()
    for line in sys.stdin:
        request = json.loads(line)
        result = (
            caught(request) if "ask" in request else isolated(request, lambda pipe: while_asked(pipe, parent))
        )
        lines.write(json.dumps(result) + "\n")
        lines.flush()


if __name__ == "__main__":
    one_job() if _ONE_JOB in sys.argv[1:] else main()
