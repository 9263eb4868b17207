"""Classify an image file with an exported TFLite model: python classify.py model.tflite image.jpg

Needs ai-edge-litert (or the older tflite-runtime), numpy, pillow and prepare_image.py beside it; neither torch nor
nasvit_edge. All it must know is in the model (a zip entry `metadata.json` behind the flatbuffer).
"""

import json
import sys
import time
import zipfile
from typing import Any

try:
    import numpy as np
    import prepare_image

    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        from tflite_runtime.interpreter import Interpreter
except ImportError as error:
    print(f"error: {error}; the head of this file says what it needs", file=sys.stderr)
    sys.exit(2)


def quantise(values: np.ndarray, tensor: dict[str, Any]) -> np.ndarray:
    """Floats as the tensor holds them: unchanged, or over scale, halves rounded up, plus zero point."""
    if tensor["dtype"] == np.float32:
        return values
    (scale, zero_point), limits = tensor["quantization"], np.iinfo(tensor["dtype"])
    whole = np.floor(values / np.float32(scale) + np.float32(0.5)) + zero_point
    return np.clip(whole, limits.min, limits.max).astype(tensor["dtype"])


def dequantise(values: np.ndarray, tensor: dict[str, Any]) -> np.ndarray:
    """Floats from what a tensor holds."""
    if tensor["dtype"] == np.float32:
        return values
    scale, zero_point = tensor["quantization"]
    return (values.astype(np.float32) - zero_point) * np.float32(scale)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Logits to probabilities; without the largest first, exp could overflow."""
    shares = np.exp(logits - logits.max())
    return shares / shares.sum()


def top_five(probabilities: np.ndarray) -> list[int]:
    """The classes of the five largest, the lower index first where equal."""
    return np.argsort(-probabilities, kind="stable")[:5].tolist()


def read_metadata(model: str) -> dict[str, str]:
    """What is written behind the flatbuffer."""
    try:
        with zipfile.ZipFile(model) as archive:
            return json.loads(archive.read("metadata.json"))
    except (zipfile.BadZipFile, KeyError):
        raise ValueError(f"{model} has no metadata.json inside: it was not written by nasvit-edge") from None


def classify(model: str, picture: str) -> None:
    """Print the five likeliest classes and the time of a run."""
    meta = read_metadata(model)
    x = prepare_image.prepared(picture, prepare_image.described(meta))[None]
    interpreter = Interpreter(model_path=model, num_threads=1)
    interpreter.allocate_tensors()
    (image,), (output,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.set_tensor(image["index"], quantise(x.repeat(image["shape"][0], axis=0), image))
    interpreter.invoke()  # the first run packs weights
    start = time.perf_counter()
    interpreter.invoke()
    spent = (time.perf_counter() - start) * 1e3
    shares = softmax(dequantise(interpreter.get_tensor(output["index"])[0], output))
    labels = json.loads(meta["labels"])
    for index in top_five(shares):
        print(f"{shares[index]:6.1%}  {labels[index]}")
    print(f"{spent:.2f} ms")


def main(arguments: list[str]) -> int:
    """0 when well, 2 with one line on what is wrong."""
    if len(arguments) != 2:
        print("usage: python classify.py model.tflite image.jpg", file=sys.stderr)
        return 2
    try:
        classify(*arguments)
    except Exception as error:  # noqa: BLE001 - every runtime has its own exceptions
        print(f"error: {(str(error).splitlines() or [repr(error)])[0]}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
