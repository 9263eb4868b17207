"""Times models on the machine it runs on: jobs in on stdin, results out on stdout, one JSON object a line.

Needs numpy and onnxruntime, ai-edge-litert or tflite-runtime. Only the model call is timed: inputs are made and bound
before. See README.md for the fields.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

_SAMPLE_NS = 200_000  # aim: a sample lasts at least this long, far above the clock's step
_WARM_RUNS, _WARM_SECONDS = 3, 0.01
_LONGEST_SECONDS = 30.0


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
    import importlib.metadata

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


RUNTIMES = {"onnxruntime": onnxruntime_call, "litert": litert_call}


def inputs(shape: list[int], seed: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Seeded normal values: zeros would make some kernels look fast."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """Load a model, warm it up by count and time, and take samples until runs and seconds are reached."""
    start = time.perf_counter_ns()
    call, version = RUNTIMES[job["runtime"]](job["model"], job["threads"], job["seed"])
    loaded = time.perf_counter_ns()
    call()  # packs weights: counted apart
    first = time.perf_counter_ns()
    warm = warm_up(call)
    inner = max(1, math.ceil(_SAMPLE_NS / warm))
    return {
        "id": job["id"],
        "samples_us": samples(call, inner, job["runs"], job["seconds"]),
        "inner": inner,
        "load_ms": (loaded - start) / 1e6,
        "first_ms": (first - loaded) / 1e6,
        "runtime_version": version,
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


def samples(call: Callable[[], object], inner: int, runs: int, seconds: float) -> list[float]:
    """Microseconds a call, each the mean of `inner` calls in a row; at least `runs` samples and `seconds`."""
    taken: list[float] = []
    start = time.perf_counter()
    while True:
        before = time.perf_counter_ns()
        for _ in range(inner):
            call()
        taken.append(round((time.perf_counter_ns() - before) / inner / 1e3, 3))
        spent = time.perf_counter() - start
        if (len(taken) >= runs and spent >= seconds) or spent > _LONGEST_SECONDS:
            return taken


def main() -> None:
    """Answer each job with one line; a model that fails is a line with its error."""
    lines = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a runtime prints goes to stderr, not between the results
    for line in sys.stdin:
        job = json.loads(line)
        try:
            result = measure(job)
        except Exception as error:
            text = " ".join(str(error).split())[:300] or type(error).__name__
            result = {"id": job["id"], "error": text}
        lines.write(json.dumps(result) + "\n")
        lines.flush()


if __name__ == "__main__":
    main()
