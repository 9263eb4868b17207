"""Segmenters calibrated as training made its crops, and on whole scenes: python benchmarks/scene_calibration.py WEIGHTS DATA

Mean IoU on the test scenes of the smallest, the largest and a few random subnets of a dense supernet, with batch norm
calibrated on 16 batches of 8 crops of the recipe that trained the weights, and on as many whole scenes at the subnet's size.
"""

import argparse
import random

import torch

from nasvit_edge import data_sets
from nasvit_edge.model.accuracy import subnet_accuracy
from nasvit_edge.model.checkpoint import load_supernet
from nasvit_edge.space import load_space
from nasvit_edge.train.calibration import SCENE_BATCH, SCENE_BATCHES, calibration_for


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("weights")
    parser.add_argument("data", help="folders train and test, of scenes")
    parser.add_argument("--space", default="nano-dense")
    parser.add_argument("--random", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(2)
    space = load_space(options.space)
    supernet = load_supernet(options.weights, space)
    crops = calibration_for(supernet, options.data)
    whole = evenly(data_sets.load_images(options.data, "train", space), SCENE_BATCHES * SCENE_BATCH)
    test = data_sets.load_images(options.data, "test", space)
    rng = random.Random(0)
    subnets = {"smallest": space.smallest(), "largest": space.largest()}
    subnets |= {f"random {i}": space.sample(rng) for i in range(options.random)}
    print(f"mean IoU on {len(test)} test scenes: {crops.name} | {len(whole)} whole scenes")
    for name, config in subnets.items():
        values = [subnet_accuracy(supernet, config, calibration, test) for calibration in (crops, whole)]
        print(f"{name:9} {config.resolution:4} px  {values[0]:6.1%} | {values[1]:6.1%}", flush=True)


def evenly(scenes, count):
    places = torch.linspace(0, len(scenes) - 1, min(count, len(scenes))).round().long()
    return scenes.take("train", places)


if __name__ == "__main__":
    main()
