"""Accuracy of trained weights on all test images, and shipping them.

    python benchmarks/ship_nano.py RUN            # evaluate RUN/supernet.safetensors: nano on Fashion-MNIST
    python benchmarks/ship_nano.py RUN --ship     # and put it into the package data, with a predictor fitted to it
    python benchmarks/ship_nano.py RUN --name OWN.toml --data CIFAR10 --random 20 --ship

Smallest, largest and a few random subnets, each calibrated by the pipeline that trained them.
"""

import argparse
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

from nasvit_edge import data_sets, files
from nasvit_edge.model.accuracy import subnet_accuracy
from nasvit_edge.model.checkpoint import load_supernet
from nasvit_edge.ops import macs
from nasvit_edge.space import load_space
from nasvit_edge.train.calibration import calibration_for


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--name", default="nano", help="of the space and of the shipped weights")
    parser.add_argument("--data", default="fashion-mnist", help="whose test images, and training images")
    parser.add_argument("--ship", action="store_true")
    parser.add_argument("--random", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(2)
    space = load_space(options.name)
    weights = options.run / "supernet.safetensors"
    supernet = load_supernet(weights, space)
    test = data_sets.load_images(options.data, "test", space)
    calibration = calibration_for(supernet, options.data)
    rng = random.Random(0)
    subnets = {"smallest": space.smallest(), "largest": space.largest()}
    subnets |= {f"random {i}": space.sample(rng) for i in range(options.random)}
    accuracies = {}
    for name, config in subnets.items():
        start = time.perf_counter()
        accuracy = accuracies[name] = subnet_accuracy(supernet, config, calibration, test)
        print(
            f"{name:10s} {macs(space, config) / 1e6:6.2f} MMACs  {accuracy:.2%} of {len(test)} test images"
            f"  ({time.perf_counter() - start:.1f} s)"
        )
    others = [value for name, value in accuracies.items() if name.startswith("random")]
    print(f"mean of {len(others)} random: {statistics.mean(others):.2%}, sd {statistics.pstdev(others):.2%}")
    if options.ship:
        files.write_bytes(files.data("weights", f"{options.name}.safetensors"), weights.read_bytes())
        print(f"shipped {weights.stat().st_size / 1e6:.2f} MB", flush=True)
        if options.name == "nano":
            fit = Path(__file__).parent / "fit_nano_accuracy.py"
            subprocess.run([sys.executable, str(fit), "--write"], check=True)


if __name__ == "__main__":
    main()
