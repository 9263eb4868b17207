"""Classify an image file with an exported TFLite model: python classify.py model.tflite image.jpg

Needs ai-edge-litert, numpy and pillow; neither torch nor nasvit_edge. All it must know is in the model
(a zip entry `metadata.json` behind the flatbuffer).
"""

import json
import sys
import time
import zipfile

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image


def preprocess(path: str, meta: dict[str, str]) -> np.ndarray:
    """An image file to (1, r, r, 3): shorter side to r, centre crop, RGB in [0, 1], minus mean, over std."""
    side = int(meta["resolution"])
    image = Image.open(path).convert("RGB")
    scale = side / min(image.size)
    image = image.resize([max(side, round(n * scale)) for n in image.size], Image.Resampling.BICUBIC)
    left, top = ((n - side) // 2 for n in image.size)
    pixels = np.asarray(image.crop((left, top, left + side, top + side)), np.float32) / 255
    mean, std = (np.array(json.loads(meta[key]), np.float32) for key in ("mean", "std"))
    return ((pixels - mean) / std)[None]


def main() -> None:
    model, picture = sys.argv[1:3]
    meta = json.loads(zipfile.ZipFile(model).read("metadata.json"))
    labels = json.loads(meta["labels"])
    interpreter = Interpreter(model_path=model, num_threads=1)
    interpreter.allocate_tensors()
    (image,), (output,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.set_tensor(image["index"], preprocess(picture, meta))
    interpreter.invoke()  # the first run packs weights
    start = time.perf_counter()
    interpreter.invoke()
    spent = (time.perf_counter() - start) * 1e3
    logits = interpreter.get_tensor(output["index"])[0]
    shares = np.exp(logits - logits.max())
    shares /= shares.sum()
    for index in np.argsort(-shares)[:5]:
        print(f"{shares[index]:6.1%}  {labels[index]}")
    print(f"{spent:.2f} ms")


if __name__ == "__main__":
    main()
