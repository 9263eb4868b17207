"""Engines by TensorRT's Python module and the CUDA runtime by ctypes, for a device without trtexec.

TensorRT 8.5 or later. Times are those of CUDA events around the inference: what trtexec calls GPU compute time.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from complaints import complaint

if TYPE_CHECKING:
    from collections.abc import Iterator

_WARM_S = 0.2


class Cuda:
    """The few calls of libcudart that are needed; an error code is an exception."""

    def __init__(self) -> None:
        for name in ("libcudart.so", "libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0"):
            with contextlib.suppress(OSError):
                self.library = ctypes.CDLL(name)
                return
        raise OSError("libcudart is not here, the runtime of CUDA; add its folder to LD_LIBRARY_PATH")

    def call(self, name: str, *values: Any) -> None:
        """Call a function; RuntimeError with its name and code where it fails."""
        code = getattr(self.library, name)(*values)
        if code:
            raise RuntimeError(f"{name} failed with CUDA error {code}")

    def made(self, name: str, *values: Any) -> ctypes.c_void_p:
        """What a function makes: memory, a stream or an event."""
        pointer = ctypes.c_void_p()
        self.call(name, ctypes.byref(pointer), *values)
        return pointer


def build(model: str, engine: str) -> bool:
    """Build the engine of a model unless it is there; whether it was built."""
    if Path(engine).exists():
        return False
    trt: Any = importlib.import_module("tensorrt")  # comes with JetPack

    logger = _logger(trt)
    typed = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    explicit = getattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH", None)
    flags = 0 if typed is None else 1 << int(typed)
    if typed is None and explicit is not None:
        flags = 1 << int(explicit)
    builder = trt.Builder(logger)
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(model):
        raise RuntimeError(f"TensorRT does not read the model: {parser.get_error(0).desc()}")
    plan = builder.build_serialized_network(network, builder.create_builder_config())
    if plan is None:
        raise RuntimeError(f"TensorRT did not build an engine: {complaint(logger.text())}")
    partial = Path(engine + ".part")
    partial.write_bytes(plan)
    partial.replace(engine)
    return True


def _engine(trt: Any, path: str) -> Any:
    logger = _logger(trt)
    engine = trt.Runtime(logger).deserialize_cuda_engine(Path(path).read_bytes())
    if engine is None:
        raise RuntimeError(f"TensorRT does not load the engine: {complaint(logger.text())}")
    return engine


def _logger(trt: Any) -> Any:
    """A logger that keeps errors: calls that fail return None and no more."""

    class Errors(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.lines: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            """Called by TensorRT; severities below an error's are worse."""
            if int(severity) <= int(trt.ILogger.ERROR):
                self.lines.append(f"[E] {message}")

        def text(self) -> str:
            return "\n".join(self.lines)

    return Errors()


def measure(job: dict[str, Any], path: str) -> dict[str, Any]:
    """Time an engine; the fields of a measurement."""
    trt: Any = importlib.import_module("tensorrt")  # comes with JetPack

    runner, cuda = sys.modules["runner"], Cuda()
    start = time.perf_counter()
    engine = _engine(trt, path)
    context = engine.create_execution_context()
    stream_of_work = cuda.made("cudaStreamCreate")
    before = runner.state()
    with _bound(cuda, trt, engine, context, job["seed"]):
        load_ms = (time.perf_counter() - start) * 1e3
        one = _Timer(cuda, context, stream_of_work)
        begun = time.perf_counter()
        while time.perf_counter() - begun < _WARM_S:
            one()
        message: dict[str, Any] = {}
        with runner.WATCH[-1](job, message):
            taken, windows = _taken(one, runner, job)
    if windows:
        message["windows"] = windows
    return {
        **message,
        "samples_us": taken,
        "load_ms": load_ms,
        "runtime_version": str(trt.__version__),
        "before": before,
        "after": runner.state(),
    }


def _taken(one: Any, runner: Any, job: dict[str, Any]) -> tuple[list[float], list[list[float]]]:
    taken: list[float] = []
    windows: list[list[float]] = []
    window: list[float] = []
    start = edge = time.perf_counter()
    while True:
        window.append(one())
        now = time.perf_counter()
        if not job.get("sustained_s"):
            taken = window
            enough = len(taken) >= job["runs"] and now - start >= job["seconds"]
            if now - start > job["most_seconds"] or (enough and runner.interval(taken) <= job["precision"]):
                return taken, []
        elif now - edge >= 1:
            windows.append([round(now - start, 3), sorted(window)[len(window) // 2]])
            taken += window[:: math.ceil(len(window) / 20)]
            window, edge = [], now
            if now - start >= job["sustained_s"]:
                return taken, windows


class _Timer:
    """Runs the engine once and gives its microseconds."""

    def __init__(self, cuda: Cuda, context: Any, stream: ctypes.c_void_p) -> None:
        self.cuda, self.context, self.stream = cuda, context, stream
        self.start, self.end = cuda.made("cudaEventCreate"), cuda.made("cudaEventCreate")

    def __call__(self) -> float:
        self.cuda.call("cudaEventRecord", self.start, self.stream)
        if not self.context.execute_async_v3(self.stream.value):
            raise RuntimeError("TensorRT did not run the engine")
        self.cuda.call("cudaEventRecord", self.end, self.stream)
        self.cuda.call("cudaStreamSynchronize", self.stream)
        ms = ctypes.c_float()
        self.cuda.call("cudaEventElapsedTime", ctypes.byref(ms), self.start, self.end)
        return round(ms.value * 1e3, 3)


@contextlib.contextmanager
def _bound(cuda: Cuda, trt: Any, engine: Any, context: Any, seed: int) -> Iterator[None]:
    """Memory for every tensor of the engine, inputs filled with seeded normal values."""
    import numpy as np

    memory = []
    try:
        for index in range(engine.num_io_tensors):
            name = engine.get_tensor_name(index)
            dtype = trt.nptype(engine.get_tensor_dtype(name))
            values = np.random.default_rng(seed).normal(size=tuple(engine.get_tensor_shape(name)))
            values = np.ascontiguousarray(values.astype(dtype))
            memory.append(cuda.made("cudaMalloc", ctypes.c_size_t(values.nbytes)))
            if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT:
                host = ctypes.c_void_p(values.ctypes.data)
                cuda.call("cudaMemcpy", memory[-1], host, ctypes.c_size_t(values.nbytes), 1)
            context.set_tensor_address(name, memory[-1].value)
        yield
    finally:
        for address in memory:
            cuda.call("cudaFree", address)
