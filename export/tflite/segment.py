"""Label the pixels of an image file with an exported TFLite model: python segment.py model.tflite image.jpg [overlay.png]

Needs ai-edge-litert (or the older tflite-runtime), numpy, pillow and prepare_image.py beside it; neither torch nor
nasvit_edge. All it must know is in the model (a zip entry `metadata.json` behind the flatbuffer). It prints the share
of each class and writes the image with its classes in colour, by default as image.segments.png here.
"""

import json
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

try:
    import numpy as np
    import prepare_image
    from PIL import Image

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


def bilinear(values: np.ndarray, size: int, axis: int) -> np.ndarray:
    """An axis resized to `size`, values taken at the centres of their pixels, the outermost ones kept beyond."""
    length = values.shape[axis]
    places = np.clip((np.arange(size) + 0.5) * length / size - 0.5, 0, length - 1)
    low = places.astype(np.int64)
    high = np.minimum(low + 1, length - 1)
    share = (places - low).astype(np.float32)
    share = share.reshape([-1 if a == axis % values.ndim else 1 for a in range(values.ndim)])
    return values.take(low, axis) * (1 - share) + values.take(high, axis) * share


def labels_of(output: np.ndarray, meta: dict[str, str]) -> np.ndarray:
    """The class of each pixel (H, W) of what the model gives for an image: labels, or logits (H', W', classes).

    Logits in 8 bits have one scale for all classes, so that the largest is the same.
    """
    if meta["output"] == "labels":
        return output
    tall = bilinear(output.astype(np.float32), int(meta["input_height"]), 0)
    return bilinear(tall, int(meta["input_width"]), 1).argmax(2)


def nearest(length: int, size: int) -> np.ndarray:
    """Of `length` pixels those at the centres of `size` pixels."""
    return (2 * np.arange(size) + 1) * length // (2 * size)


def overlay(image: Image.Image, labels: np.ndarray, meta: dict[str, str]) -> Image.Image:
    """The image, each pixel mixed half and half with the colour of its class."""
    pixels, palette = np.asarray(image), np.array(json.loads(meta["palette"]), np.uint8)
    rows, columns = nearest(labels.shape[0], image.height), nearest(labels.shape[1], image.width)
    colours = palette[labels[rows][:, columns]]
    return Image.fromarray(((pixels.astype(np.uint16) + colours + 1) // 2).astype(np.uint8))


def class_shares(labels: np.ndarray, names: list[str]) -> list[tuple[float, str]]:
    """The classes that occur with their share of the pixels, the largest first, the lower index first where equal."""
    counts = np.bincount(labels.ravel(), minlength=len(names))
    order = np.argsort(-counts, kind="stable")
    return [(float(counts[i] / labels.size), names[i]) for i in order if counts[i]]


def read_metadata(model: str) -> dict[str, str]:
    """What is written behind the flatbuffer."""
    try:
        with zipfile.ZipFile(model) as archive:
            meta = json.loads(archive.read("metadata.json"))
    except (zipfile.BadZipFile, KeyError):
        meta = {}
    if "output" not in meta or "palette" not in meta:
        raise ValueError(f"{model} is no segmenter that was written by nasvit-edge")
    return meta


def segment(model: str, picture: str, out: str) -> None:
    """Print the classes' shares and the time of a run, and write the overlay."""
    meta = read_metadata(model)
    preparation = prepare_image.described(meta)
    image = prepare_image.decoded(picture, preparation)
    interpreter = Interpreter(model_path=model, num_threads=1)
    interpreter.allocate_tensors()
    (source,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
    x = prepare_image.prepared_image(image, preparation)[None].repeat(source["shape"][0], axis=0)
    interpreter.set_tensor(source["index"], quantise(x, source))
    interpreter.invoke()  # the first run packs weights
    start = time.perf_counter()
    interpreter.invoke()
    spent = (time.perf_counter() - start) * 1e3
    labels = labels_of(interpreter.get_tensor(result["index"])[0], meta)
    overlay(image, labels, meta).save(out)
    for share, name in class_shares(labels, json.loads(meta["labels"])):
        print(f"{share:6.1%}  {name}")
    print(f"{spent:.2f} ms")


def main(arguments: list[str]) -> int:
    """0 when well, 2 with one line on what is wrong."""
    if len(arguments) not in (2, 3):
        print("usage: python segment.py model.tflite image.jpg [overlay.png]", file=sys.stderr)
        return 2
    try:
        model, picture = arguments[:2]
        segment(model, picture, arguments[2] if arguments[2:] else f"{Path(picture).stem}.segments.png")
    except Exception as error:  # noqa: BLE001 - every runtime has its own exceptions
        print(f"error: {(str(error).splitlines() or [repr(error)])[0]}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
