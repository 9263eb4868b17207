"""Classify an image file with an exported ONNX model: python classify.py model.onnx image.jpg

Needs onnxruntime, numpy and pillow; neither torch nor nasvit_edge. All it must know is in the model.
"""

import json
import sys
import time

import numpy as np
import onnxruntime
from PIL import Image


def preprocess(path: str, meta: dict[str, str]) -> np.ndarray:
    """An image file to (1, 3, r, r): shorter side to r, centre crop, RGB in [0, 1], minus mean, over std."""
    side = int(meta["resolution"])
    image = Image.open(path).convert("RGB")
    scale = side / min(image.size)
    image = image.resize([max(side, round(n * scale)) for n in image.size], Image.Resampling.BICUBIC)
    left, top = ((n - side) // 2 for n in image.size)
    pixels = np.asarray(image.crop((left, top, left + side, top + side)), np.float32) / 255
    mean, std = (np.array(json.loads(meta[key]), np.float32) for key in ("mean", "std"))
    return ((pixels - mean) / std).transpose(2, 0, 1)[None]


def main() -> None:
    model, picture = sys.argv[1:3]
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    meta = session.get_modelmeta().custom_metadata_map
    labels = json.loads(meta["labels"])
    x = preprocess(picture, meta)
    session.run(None, {"image": x})  # the first run packs weights
    start = time.perf_counter()
    logits = session.run(None, {"image": x})[0][0]
    spent = (time.perf_counter() - start) * 1e3
    shares = np.exp(logits - logits.max())
    shares /= shares.sum()
    for index in np.argsort(-shares)[:5]:
        print(f"{shares[index]:6.1%}  {labels[index]}")
    print(f"{spent:.2f} ms")


if __name__ == "__main__":
    main()
