"""Classify an image file with an exported ONNX model: python classify.py model.onnx image.jpg

Needs onnxruntime, numpy and pillow; neither torch nor nasvit_edge. All it must know is in the model.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


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
    """An image to (1, 3, r, r): upright, RGB, bicubic, centre crop, normalised."""
    side = int(meta["resolution"])
    image = ImageOps.exif_transpose(image).convert("RGB")
    width, height, left, top = crop_geometry(*image.size, side)
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    pixels = np.asarray(image.crop((left, top, left + side, top + side)))
    return normalise(pixels, meta).transpose(2, 0, 1)[None]


def softmax(logits: np.ndarray) -> np.ndarray:
    """Logits to probabilities; without the largest first, exp could overflow."""
    shares = np.exp(logits - logits.max())
    return shares / shares.sum()


def top_five(probabilities: np.ndarray) -> list[int]:
    """The classes of the five largest, the lower index first where equal."""
    return np.argsort(-probabilities, kind="stable")[:5].tolist()


def classify(model: str, picture: str) -> None:
    """Print the five likeliest classes and the time of a run."""
    session = onnxruntime.InferenceSession(Path(model).read_bytes(), providers=["CPUExecutionProvider"])
    meta = session.get_modelmeta().custom_metadata_map
    if "labels" not in meta:
        raise ValueError(f"{model} has no labels inside: it was not written by nasvit-edge")
    with Image.open(picture) as image:
        x = preprocess(image, meta)
    batch = session.get_inputs()[0].shape[0]
    if isinstance(batch, int):  # a name where the batch is open
        x = x.repeat(batch, axis=0)
    session.run(None, {"image": x})  # the first run packs weights
    start = time.perf_counter()
    logits = session.run(None, {"image": x})[0][0]
    spent = (time.perf_counter() - start) * 1e3
    shares, labels = softmax(logits), json.loads(meta["labels"])
    for index in top_five(shares):
        print(f"{shares[index]:6.1%}  {labels[index]}")
    print(f"{spent:.2f} ms")


def main(arguments: list[str]) -> int:
    """0 when well, 2 with one line on what is wrong."""
    if len(arguments) != 2:
        print("usage: python classify.py model.onnx image.jpg", file=sys.stderr)
        return 2
    try:
        classify(*arguments)
    except Exception as error:  # noqa: BLE001 - every runtime has its own exceptions
        print(f"error: {(str(error).splitlines() or [repr(error)])[0]}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
