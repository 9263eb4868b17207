"""Classify an image file with an exported TFLite model: python classify.py model.tflite image.jpg

Needs ai-edge-litert (or the older tflite-runtime), numpy and pillow; neither torch nor nasvit_edge. All it must
know is in the model (a zip entry `metadata.json` behind the flatbuffer).
"""

import json
import sys
import time
import zipfile
from typing import Any

import numpy as np
from PIL import Image, ImageOps

try:
    from ai_edge_litert.interpreter import Interpreter
except ImportError:
    from tflite_runtime.interpreter import Interpreter


def crop_geometry(width: int, height: int, side: int) -> tuple[int, int, int, int]:
    """(width, height, left, top): shorter side to `side`, halves rounded up, then the middle square."""
    shorter = min(width, height)
    resized_width = (width * side + shorter // 2) // shorter
    resized_height = (height * side + shorter // 2) // shorter
    return resized_width, resized_height, (resized_width - side) // 2, (resized_height - side) // 2


def normalise(pixels: np.ndarray, meta: dict[str, str]) -> np.ndarray:
    """RGB bytes to RGB in [0, 1], minus mean, over std."""
    mean, std = (np.array(json.loads(meta[key]), np.float32) for key in ("mean", "std"))
    return (pixels.astype(np.float32) / 255 - mean) / std


def preprocess(image: Image.Image, meta: dict[str, str]) -> np.ndarray:
    """An image to (1, r, r, 3): upright, RGB, bicubic, centre crop, normalised."""
    side = int(meta["resolution"])
    image = ImageOps.exif_transpose(image).convert("RGB")
    width, height, left, top = crop_geometry(*image.size, side)
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    pixels = np.asarray(image.crop((left, top, left + side, top + side)))
    return normalise(pixels, meta)[None]


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
    with Image.open(picture) as opened:
        x = preprocess(opened, meta)
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
