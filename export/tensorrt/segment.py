"""Label the pixels of an image file with an engine that build_engine.py made, or the plan for RTX-class GPUs:

    python3 segment.py model.engine image.jpg [overlay.png]      needs tensorrt (10 or later)
    python3 segment.py rtx.plan image.jpg [overlay.png]          needs tensorrt-rtx

Both need what classify.py beside it needs, whose engine this is. It prints the share of each class and writes the
image with its classes in colour, by default as image.segments.png here.
"""

import json
import sys
import time
from pathlib import Path

try:
    import numpy as np
    import prepare_image
    from classify import Engine, read_json
    from PIL import Image
except ImportError as error:
    print(f"error: {error}; the head of this file says what it needs", file=sys.stderr)
    sys.exit(2)


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
    """The class of each pixel (H, W) of what the model gives for an image: labels, or logits (classes, H', W')."""
    if meta["output"] == "labels":
        return output
    tall = bilinear(output, int(meta["input_height"]), 1)
    return bilinear(tall, int(meta["input_width"]), 2).argmax(0)


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


def segment(path: Path, picture: str, out: str) -> None:
    """Print the classes' shares and the time of a run, and write the overlay."""
    meta = read_json(path.with_name("metadata.json"))["metadata"]
    if "output" not in meta or "palette" not in meta:
        raise ValueError(f"{path.name} is no segmenter that was written by nasvit-edge")
    preparation = prepare_image.described(meta)
    image = prepare_image.decoded(picture, preparation)
    x = prepare_image.prepared_image(image, preparation).transpose(2, 0, 1)[None]
    names, grid = json.loads(meta["labels"]), output_shape(meta)
    kind = np.int32 if meta["output"] == "labels" else np.float32
    engine = Engine(path, x.shape[1:], grid, meta["output"], kind)
    engine.run(x)  # the first run is slower
    start = time.perf_counter()
    output = engine.run(x)
    spent = (time.perf_counter() - start) * 1e3
    labels = labels_of(output, meta)
    overlay(image, labels, meta).save(out)
    for share, name in class_shares(labels, names):
        print(f"{share:6.1%}  {name}")
    print(f"{spent:.2f} ms")


def output_shape(meta: dict[str, str]) -> tuple[int, ...]:
    """Of what the engine gives for an image: (H, W) labels or (classes, H', W') logits."""
    grid = (int(meta["output_height"]), int(meta["output_width"]))
    return grid if meta["output"] == "labels" else (int(meta["classes"]), *grid)


def main(arguments: list[str]) -> int:
    """0 when well, 2 with one line on what is wrong."""
    if len(arguments) not in (2, 3):
        print("usage: python3 segment.py model.engine image.jpg [overlay.png]", file=sys.stderr)
        return 2
    try:
        model, picture = arguments[:2]
        segment(Path(model), picture, arguments[2] if arguments[2:] else f"{Path(picture).stem}.segments.png")
    except Exception as error:  # noqa: BLE001 - TensorRT and CUDA have exceptions of their own
        print(f"error: {(str(error).splitlines() or [repr(error)])[0]}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
