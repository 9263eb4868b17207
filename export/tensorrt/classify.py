"""Classify an image file with an engine that build_engine.py made, or the plan for RTX-class GPUs:

    python3 classify.py model.engine image.jpg      needs tensorrt (10 or later)
    python3 classify.py rtx.plan image.jpg          needs tensorrt-rtx

Both need cuda-python, numpy, pillow and prepare_image.py beside it, and metadata.json (and engine.json) beside the
engine. An engine is refused where the TensorRT version or the GPU is not the one it was built for.
"""

import hashlib
import importlib
import json
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

try:
    import numpy as np
    import prepare_image
except ImportError as error:
    print(f"error: {error}; the head of this file says what it needs", file=sys.stderr)
    sys.exit(2)

RTX_PLAN = "rtx.plan"


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities; the largest logit is taken off first, so that nothing overflows."""
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


def top_five(shares: np.ndarray) -> list[int]:
    """The five most probable classes; of equal ones the lower number first."""
    return [int(i) for i in np.argsort(-shares, kind="stable")[:5]]


def report(logits: np.ndarray, labels: list[str], spent_ms: float) -> None:
    """Print the five most probable classes and the time of a run."""
    shares = softmax(logits)
    for index in top_five(shares):
        print(f"{shares[index]:6.1%}  {labels[index]}")
    print(f"{spent_ms:.2f} ms")


def read_json(path: Path) -> dict[str, Any]:
    """A sidecar."""
    if not path.exists():
        raise ValueError(f"{path.name} is not beside the engine; run build_engine.py first")
    return json.loads(path.read_text(encoding="utf-8"))


def record(engine: Path) -> dict[str, Any]:
    """What was written down when the engine was built: library, version, sha256, GPUs (none where unknown)."""
    if engine.name == RTX_PLAN:
        plan = read_json(engine.with_name("metadata.json"))["plan"]
        return {"library": "tensorrt_rtx", "version": plan["tensorrt_rtx"], "sha256": plan["sha256"]} | {
            "capabilities": plan["compute_capabilities"]
        }
    about = read_json(engine.with_name("engine.json"))
    capability = about.get("compute_capability")
    return {"library": "tensorrt", "version": about["tensorrt"], "sha256": about["engine_sha256"]} | {
        "capabilities": [f"SM{capability.replace('.', '')}"] if capability else []
    }


def check_file(built: dict[str, Any], sha256: str) -> None:
    """The engine must be the one that the sidecar is of."""
    if built["sha256"] != sha256:
        raise ValueError("the engine is not the one that its sidecar describes; run build_engine.py again")


def check_version(built_with: str, here: str) -> None:
    """Engines run only with the TensorRT version that built them, as far as it was written down."""
    parts = built_with.split(".")
    if parts != here.split(".")[: len(parts)]:
        raise ValueError(f"the engine is of TensorRT {built_with}, here is {here}; run build_engine.py again")


def check_gpu(capabilities: list[str], here: str) -> None:
    """Engines run only on the compute capabilities they were built for; `here` is as `8.7`."""
    if capabilities and f"SM{here.replace('.', '')}" not in capabilities:
        raise ValueError(
            f"the engine is for {', '.join(capabilities)}, this GPU is of compute capability {here}"
        )


def module(name: str, package: str) -> ModuleType:
    """A module, or the line that says what to install."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(f"{name} does not load ({error}); it comes with {package}") from None


class Engine:
    """An engine with its buffers on the GPU, for images (3, H, W) and a result of the shape, name and type that are given."""

    def __init__(
        self,
        path: Path,
        image: tuple[int, ...],
        result: tuple[int, ...],
        name: str = "logits",
        kind: type = np.float32,
    ) -> None:
        built = record(path)
        content = path.read_bytes()
        check_file(built, hashlib.sha256(content).hexdigest())
        package = "pip install tensorrt-rtx" if built["library"] == "tensorrt_rtx" else "JetPack or TensorRT"
        trt = module(built["library"], package)
        check_version(built["version"], trt.__version__)
        self.cuda = cuda = module("cuda.bindings.runtime", "pip install cuda-python")
        attribute = cuda.cudaDeviceAttr
        major, minor = (
            self._made(cuda.cudaDeviceGetAttribute(wanted, 0))
            for wanted in (
                attribute.cudaDevAttrComputeCapabilityMajor,
                attribute.cudaDevAttrComputeCapabilityMinor,
            )
        )
        check_gpu(built["capabilities"], f"{major}.{minor}")
        self.runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
        self.engine = self.runtime.deserialize_cuda_engine(content)
        if self.engine is None:
            raise ValueError(f"{path.name} does not load here; run build_engine.py again")
        self.context = self.engine.create_execution_context()
        batch = self.engine.get_tensor_shape("image")[0]
        self.shape = (batch, *image)
        self.result = np.empty((batch, *result), kind)
        self.stream = self._made(cuda.cudaStreamCreate())
        self.image = self._made(cuda.cudaMalloc(4 * int(np.prod(self.shape))))
        self.output = self._made(cuda.cudaMalloc(self.result.nbytes))
        self.context.set_tensor_address("image", int(self.image))
        self.context.set_tensor_address(name, int(self.output))

    def _made(self, answer: tuple) -> Any:
        if int(answer[0]) != 0:
            raise ValueError(f"CUDA says {getattr(answer[0], 'name', answer[0])}")
        return answer[1] if len(answer) > 1 else None

    def run(self, x: np.ndarray) -> np.ndarray:
        """The result, as logits (classes,), of an image (1, 3, H, W)."""
        kind, cuda = self.cuda.cudaMemcpyKind, self.cuda
        source = np.ascontiguousarray(np.broadcast_to(x, self.shape), np.float32)
        to_gpu, from_gpu = kind.cudaMemcpyHostToDevice, kind.cudaMemcpyDeviceToHost
        self._made(cuda.cudaMemcpy(self.image, source.ctypes.data, source.nbytes, to_gpu))
        if not self.context.execute_async_v3(int(self.stream)):
            raise ValueError("TensorRT could not run the engine")
        self._made(cuda.cudaStreamSynchronize(self.stream))
        self._made(cuda.cudaMemcpy(self.result.ctypes.data, self.output, self.result.nbytes, from_gpu))
        return self.result[0]


def classify(path: Path, picture: str) -> None:
    """Print the five most probable classes and the time of a run."""
    meta = read_json(path.with_name("metadata.json"))["metadata"]
    labels = json.loads(meta["labels"])
    x = prepare_image.prepared(picture, prepare_image.described(meta)).transpose(2, 0, 1)[None]
    engine = Engine(path, x.shape[1:], (len(labels),))
    engine.run(x)  # the first run is slower
    start = time.perf_counter()
    logits = engine.run(x)
    report(logits, labels, (time.perf_counter() - start) * 1e3)


def main(arguments: list[str]) -> int:
    """0 when well, 2 with one line on what is wrong."""
    if len(arguments) != 2:
        print("usage: python3 classify.py model.engine image.jpg", file=sys.stderr)
        return 2
    try:
        classify(Path(arguments[0]), arguments[1])
    except Exception as error:  # noqa: BLE001 - TensorRT and CUDA have exceptions of their own
        print(f"error: {(str(error).splitlines() or [repr(error)])[0]}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
