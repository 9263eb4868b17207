"""Classify an image file with an exported ONNX model: python classify.py model.onnx image.jpg

Needs onnxruntime, numpy, pillow and prepare_image.py beside it; neither torch nor nasvit_edge. All it must know is in
the model.
"""

import json
import sys
import time
from pathlib import Path

try:
    import numpy as np
    import onnxruntime
    import prepare_image
except ImportError as error:
    print(f"error: {error}; the head of this file says what it needs", file=sys.stderr)
    sys.exit(2)


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
    x = prepare_image.prepared(picture, prepare_image.described(meta)).transpose(2, 0, 1)[None]
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
