"""What precisions cost: python benchmarks/precision_accuracy.py [--cifar10 FOLDER]

Subnets of `nano` (Fashion-MNIST's 10,000 test images) and, with a folder of CIFAR-10's images (train/, test/), of `nano-cifar10`: the smallest,
the largest and five random ones, each calibrated. For each runtime and precision top-1 of the file less that of the fp32 file on
the same images in points, its 95 % interval, and the signal-to-noise ratio of the logits on 512 of them. Ranges of int8 are from 256 training
images. Some minutes a space.
"""

import argparse
import random
import tempfile
from pathlib import Path

import numpy as np

import nasvit_edge as ne
from nasvit_edge import data_sets, ops
from nasvit_edge.data_sets import calibration_images
from nasvit_edge.export import parity
from nasvit_edge.export.formats import Conversion, format_for
from nasvit_edge.export.quiet import quiet
from nasvit_edge.model.accuracy import calibrated
from nasvit_edge.model.subnet import fold_for, materialise
from nasvit_edge.paired import compare_hits

RANGES, NOISE = 256, 512


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cifar10")
    parser.add_argument("--spaces", nargs="+", default=["nano", "nano-cifar10"])
    parser.add_argument("--runtimes", nargs="+", default=["onnxruntime", "litert"])
    parser.add_argument("--precisions", nargs="+", default=["int8", "dynamic"])
    parser.add_argument("--random", type=int, default=5)
    options = parser.parse_args()
    for name in options.spaces:
        data = "fashion-mnist" if name == "nano" else options.cifar10
        if data:
            measure(ne.load_space(name), name, data, options)


def measure(space, weights: str, data: str, options: argparse.Namespace) -> None:
    supernet, rng = ne.load_supernet(weights, space), random.Random(0)
    tests = data_sets.load_images(data, "test", space)
    configs = {"smallest": space.smallest(), "largest": space.largest()}
    configs |= {f"random {i}": space.sample(rng) for i in range(options.random)}
    for name, config in configs.items():
        subnet = calibrated(materialise(supernet, config), calibration_images(data, space, 1024))
        batches = calibration_images(data, space, RANGES).batches(space, config.resolution)
        seen = np.concatenate([images.numpy() for images, _ in batches])[:RANGES]
        print(f"{space.name} {name}: {ops.macs(space, config) / 1e6:.1f} MMACs", flush=True)
        for runtime in options.runtimes:
            compare(subnet, runtime, seen, tests, options.precisions)


def compare(subnet, runtime: str, seen: np.ndarray, tests, precisions: list[str]) -> None:
    form, folded = format_for(runtime), fold_for(subnet, runtime)
    base = None
    for precision in ("fp32", *(p for p in precisions if p in form.thresholds)):
        recipe = Conversion(precision=precision, calibration=seen if precision == "int8" else None)
        with tempfile.TemporaryDirectory() as folder, quiet():
            path = Path(folder, f"model{form.suffix}")
            path.write_bytes(form.module().convert(folded, (1, 3, *subnet.size), recipe))
            hits, logits = judged(form.module().runner(path, 2), subnet, tests)
        if base is None:
            base, exact = hits, logits
            print(f"    {runtime:11} fp32     {hits.mean():.2%}", flush=True)
            continue
        difference, _, _ = compare_hits(base, hits, 0.025)
        points = [100 * v for v in (difference.value, difference.low, difference.high)]
        print(
            f"    {runtime:11} {precision:8} {points[0]:+.2f} points ({points[1]:+.2f} to {points[2]:+.2f}), "
            f"{parity.snr_db(logits, exact):.1f} dB",
            flush=True,
        )


def judged(run, subnet, tests) -> tuple[np.ndarray, np.ndarray]:
    """Which images are right, and the first logits."""
    hits, logits, count = [], [], 0
    for images, labels in tests.batches(subnet.space, subnet.config.resolution):
        logits_here = run(images.numpy())
        hits.append(logits_here.argmax(1) == labels.numpy())
        if count < NOISE:
            logits.append(logits_here)
        count += len(logits_here)
    return np.concatenate(hits), np.concatenate(logits)[:NOISE]


if __name__ == "__main__":
    main()
