"""What varying a batch of 128 images of 32 px takes one core, in milliseconds, by recipe: the table of docs/data.md.

python benchmarks/augmentation_speed.py
"""

from __future__ import annotations

import statistics
import time

import torch

from nasvit_edge.data_sets import ImageSet
from nasvit_edge.space import load_space
from nasvit_edge.train.loading import Loader
from nasvit_edge.train.recipe import Augment, load_recipe

BATCH, TIMES = 128, 25
NOTHING = {"flip": 0.0, "randaugment_ops": 0, "erasing": 0.0, "mixup": 0.0, "cutmix": 0.0}
MIXED = {"randaugment_ops": 0, "erasing_fill": "noise"}
CASES = {
    "none": Augment(crop="none", **NOTHING),
    "shift and flip, mixup and cutmix, erasing 0.01": Augment(crop="padded", **MIXED),
    "the same and RandAugment of torchvision, 1 operation of strength 1": Augment(
        crop="padded", erasing_fill="noise"
    ),
    "the same and RandAugment of timm, 1 operation of strength 1": Augment(
        crop="padded", erasing_fill="noise", ops="timm"
    ),
    "random resized crop, RandAugment of timm, 1 operation of strength 1 (recipe `nasvit`)": load_recipe(
        "nasvit"
    ).augment,
    "recipe `deit`: RandAugment of timm, 2 operations of strength 9, erasing 0.25, mixup 0.8, cutmix 1": load_recipe(
        "deit"
    ).augment,
    "shift and flip, AutoAugment of torchvision": Augment(crop="padded", autoaugment="cifar10", **NOTHING),
    "random resized crop, AutoAugment v0 of timm (recipe `alphanet`)": load_recipe("alphanet").augment,
}


def main() -> None:
    torch.set_num_threads(1)
    space = load_space("nano-cifar10")
    pixels = torch.randint(0, 256, (4096, 3, 32, 32), dtype=torch.uint8)
    images = ImageSet("noise", pixels, torch.arange(4096) % space.classes)
    loaders = {
        name: Loader(images, augment, space, size=32, batch_size=BATCH, workers=0)
        for name, augment in CASES.items()
    }
    steps = {name: loader.steps(0, TIMES + 2) for name, loader in loaders.items()}
    taken: dict[str, list[float]] = {name: [] for name in CASES}
    for _ in range(TIMES + 2):  # in turns: the machine changes speed
        for name, batches in steps.items():
            started = time.perf_counter()
            next(batches)
            taken[name].append(1000 * (time.perf_counter() - started))
    print("| augmentation | ms |\n|---|---|")
    for name, times in taken.items():
        print(f"| {name} | {statistics.median(times[2:]):.1f} |")


if __name__ == "__main__":
    main()
