"""Accuracy of trained weights on the full Fashion-MNIST test set, and shipping them.

    python benchmarks/ship_nano.py RUN            # evaluate RUN/supernet.safetensors
    python benchmarks/ship_nano.py RUN --ship     # and put it into the package data

Smallest, largest and a few random subnets, each calibrated on the 512 bundled calibration images.
"""

import argparse
import random
import time
from pathlib import Path

import torch

from nasvit_edge import data_sets, files
from nasvit_edge.model.checkpoint import load_supernet
from nasvit_edge.model.evaluate import subnet_accuracy
from nasvit_edge.ops import macs
from nasvit_edge.space import load_space


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--ship", action="store_true")
    parser.add_argument("--training-images", type=int, help="calibrate on so many training images instead")
    parser.add_argument("--random", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(2)
    space = load_space("nano")
    weights = options.run / "supernet.safetensors"
    supernet = load_supernet(weights, space)
    calibration, test = data_sets.bundled("calibration"), data_sets.fashion_mnist(train=False)
    if options.training_images:
        calibration = data_sets.fashion_mnist_splits()[0].take("train", slice(0, options.training_images))
    rng = random.Random(0)
    subnets = {"smallest": space.smallest(), "largest": space.largest()}
    subnets |= {f"random {i}": space.sample(rng) for i in range(options.random)}
    for name, config in subnets.items():
        start = time.perf_counter()
        accuracy = subnet_accuracy(supernet, config, calibration, test)
        print(
            f"{name:10s} {macs(space, config) / 1e6:6.2f} MMACs  {accuracy:.2%} of {len(test)} test images"
            f"  ({time.perf_counter() - start:.1f} s)"
        )
    if options.ship:
        files.write_bytes(files.data("weights", "nano.safetensors"), weights.read_bytes())
        print(f"shipped {weights.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
