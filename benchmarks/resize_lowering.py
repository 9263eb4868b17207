"""Bilinear resizing in ONNX files as matrix products against the Resize operator: python benchmarks/resize_lowering.py

Whole segmenters of a space, labels inside, by ONNX Runtime on one thread, in turns within one run; agreement of the labels.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from nasvit_edge.export import onnx
from nasvit_edge.export.formats import Conversion
from nasvit_edge.model.checkpoint import load_supernet
from nasvit_edge.model.subnet import PixelLabels, fold, materialise
from nasvit_edge.space import load_space


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--space", default="nano-dense")
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    space = load_space(options.space)
    supernet = load_supernet("random:0", space)
    for name, config in (("smallest", space.smallest()), ("largest", space.largest())):
        size = space.input_size(config.resolution)
        module = PixelLabels(fold(materialise(supernet, config)))
        image = np.random.default_rng(0).standard_normal((1, 3, *size)).astype(np.float32)
        with tempfile.TemporaryDirectory() as folder:
            ways = {}
            for way, runtime in (("Resize", "tensorrt"), ("matrix products", "onnxruntime")):
                path = Path(folder, f"{runtime}.onnx")
                path.write_bytes(
                    onnx.convert(module, image.shape, Conversion(output="labels"), runtime=runtime)
                )
                ways[way] = onnx.runner(path)
            times = {way: [] for way in ways}
            for _ in range(options.rounds):
                for way, run in ways.items():
                    times[way].append(timed(run, image))
            outputs = [run(image) for run in ways.values()]
        middle = {way: statistics.median(values) for way, values in times.items()}
        ratio = statistics.median(a / b for a, b in zip(*times.values(), strict=True))
        parts = ", ".join(f"{way} {value:.2f} ms" for way, value in middle.items())
        same = float((outputs[0] == outputs[1]).mean())
        print(
            f"{name} {size[1]}x{size[0]}: {parts}; {ratio:.2f} times as fast; {same:.4%} of labels the same"
        )


def timed(run, image, repeats: int = 5) -> float:
    """Milliseconds of a run, after one that is not counted."""
    run(image)
    started = time.perf_counter()
    for _ in range(repeats):
        run(image)
    return (time.perf_counter() - started) / repeats * 1e3


if __name__ == "__main__":
    main()
