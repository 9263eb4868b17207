"""Classify an image file with an engine that build_engine.py made: python3 classify.py image.jpg

Needs tensorrt (10 or later), cuda-python, numpy and pillow, on the device that the engine was built on.
"""

import ctypes
import json
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).resolve().parent


def crop_geometry(width: int, height: int, side: int) -> tuple[int, int, int, int]:
    """Resized width and height (the shorter side becomes `side`), then left and top of the centre crop."""
    shorter = min(width, height)
    wide, high = (max(side, (2 * n * side + shorter) // (2 * shorter)) for n in (width, height))
    return wide, high, (wide - side) // 2, (high - side) // 2


def normalise(pixels: np.ndarray, mean: list[float], std: list[float]) -> np.ndarray:
    """RGB 0..255 (..., 3) to (RGB / 255 - mean) / std."""
    values = np.asarray(pixels, np.float32) / 255
    return (values - np.array(mean, np.float32)) / np.array(std, np.float32)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities; the largest logit is taken off first, so that nothing overflows."""
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


def top_five(shares: np.ndarray) -> list[int]:
    """The five most probable classes; of equal ones the lower number first."""
    return [int(i) for i in np.argsort(-shares, kind="stable")[:5]]


def read_image(path: str, meta: dict[str, str]) -> np.ndarray:
    """An image file to (r, r, 3), normalised: shorter side to r, centre crop."""
    side = int(meta["resolution"])
    image = Image.open(path).convert("RGB")
    wide, high, left, top = crop_geometry(*image.size, side)
    image = image.resize((wide, high), Image.Resampling.BICUBIC)
    pixels = np.asarray(image.crop((left, top, left + side, top + side)))
    return normalise(pixels, json.loads(meta["mean"]), json.loads(meta["std"]))


def report(logits: np.ndarray, labels: list[str], spent_ms: float) -> None:
    """Print the five most probable classes and the time of a run."""
    shares = softmax(logits)
    for index in top_five(shares):
        print(f"{shares[index]:6.1%}  {labels[index]}")
    print(f"{spent_ms:.2f} ms")


def check_version(built_with: str, here: str) -> None:
    """Engines run only with the TensorRT version that built them."""
    if built_with.split(".")[:2] != here.split(".")[:2]:
        sys.exit(f"error: the engine is of TensorRT {built_with}, here is {here}; run build_engine.py again")


class Engine:
    """An engine with its buffers on the GPU."""

    def __init__(self, path: Path, classes: int, side: int) -> None:
        import tensorrt as trt
        from cuda.bindings import runtime as cuda

        self.cuda = cuda
        self.engine = trt.Runtime(trt.Logger(trt.Logger.ERROR)).deserialize_cuda_engine(path.read_bytes())
        if self.engine is None:
            sys.exit(f"error: {path.name} does not load here; run build_engine.py again")
        self.context = self.engine.create_execution_context()
        self.logits = np.empty((1, classes), np.float32)
        self.image_bytes = 3 * side * side * 4
        self.stream = self._made(cuda.cudaStreamCreate())
        self.image, self.output = (
            self._made(cuda.cudaMalloc(size)) for size in (self.image_bytes, self.logits.nbytes)
        )
        self.context.set_tensor_address("image", int(self.image))
        self.context.set_tensor_address("logits", int(self.output))

    def _made(self, answer: tuple) -> object:
        if int(answer[0]) != 0:
            sys.exit(f"error: CUDA says {answer[0]!s}")
        return answer[1] if len(answer) > 1 else None

    def run(self, x: np.ndarray) -> np.ndarray:
        """Logits (classes,) of an image (1, 3, r, r)."""
        kind, cuda = self.cuda.cudaMemcpyKind, self.cuda
        source = x.ctypes.data_as(ctypes.c_void_p).value
        self._made(cuda.cudaMemcpy(self.image, source, self.image_bytes, kind.cudaMemcpyHostToDevice))
        self.context.execute_async_v3(int(self.stream))
        self._made(cuda.cudaStreamSynchronize(self.stream))
        target = self.logits.ctypes.data_as(ctypes.c_void_p).value
        self._made(cuda.cudaMemcpy(target, self.output, self.logits.nbytes, kind.cudaMemcpyDeviceToHost))
        return self.logits[0]


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python3 classify.py image.jpg")
    if not (HERE / "engine.json").exists():
        sys.exit("error: no engine yet; run: python3 build_engine.py")
    import tensorrt as trt

    check_version(json.loads((HERE / "engine.json").read_text())["tensorrt"], trt.__version__)
    meta = json.loads((HERE / "metadata.json").read_text())["metadata"]
    labels = json.loads(meta["labels"])
    x = np.ascontiguousarray(read_image(sys.argv[1], meta).transpose(2, 0, 1)[None])
    engine = Engine(HERE / "model.engine", len(labels), int(meta["resolution"]))
    engine.run(x)  # the first run is slower
    start = time.perf_counter()
    logits = engine.run(x)
    report(logits, labels, (time.perf_counter() - start) * 1e3)


if __name__ == "__main__":
    main()
