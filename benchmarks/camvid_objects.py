"""Photographs of things, cut out of CamVid's scenes by their masks: python benchmarks/camvid_objects.py CAMVID --out objects

CAMVID has train, val and test, each with images and masks. What is written are folders train/ (train and val) and test/, a folder for each
class, as `adopt` takes them. A thing is a connected region of a class; it is cut out as a square that holds it with a tenth of its side
around it, at its own size, where that is 64 pixels or more and at least a fifth of the square is the class.
"""

import argparse
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

CLASSES = {
    1: "building",
    5: "tree",
    6: "sign",
    7: "fence",
    8: "car",
    9: "pedestrian",
}  # poles and cyclists are too few
SMALLEST, LEAST, MARGIN = 64, 0.2, 1.2
SPLITS = {"train": "train", "val": "train", "test": "test"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("camvid", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    counts = Counter[tuple[str, str]]()
    for split, folder in SPLITS.items():
        for path in sorted((options.camvid / split / "masks").glob("*.png")):
            image = Image.open(options.camvid / split / "images" / f"{path.stem}.jpg").convert("RGB")
            for number, (name, box) in enumerate(things(np.asarray(Image.open(path)))):
                target = options.out / folder / name / f"{path.stem}_{number}.png"
                target.parent.mkdir(parents=True, exist_ok=True)
                image.crop(box).save(target)
                counts[folder, name] += 1
    for key, count in sorted(counts.items()):
        print(*key, count)


def things(mask: np.ndarray) -> list[tuple[str, tuple[int, int, int, int]]]:
    """Class and box (left, top, right, bottom) of each thing of a mask (H, W)."""
    cut_out = []
    for value, name in CLASSES.items():
        regions, _ = ndimage.label(mask == value)
        for rows, columns in ndimage.find_objects(regions):
            if max(rows.stop - rows.start, columns.stop - columns.start) * MARGIN < SMALLEST:
                continue
            box = square(rows, columns, mask.shape)
            inside = mask[box[1] : box[3], box[0] : box[2]] == value
            if box[2] - box[0] >= SMALLEST and inside.mean() >= LEAST:
                cut_out.append((name, box))
    return cut_out


def square(rows: slice, columns: slice, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """The square around a box, inside the image."""
    side = round(min(max(rows.stop - rows.start, columns.stop - columns.start) * MARGIN, *shape))
    top = min(max((rows.start + rows.stop - side) // 2, 0), shape[0] - side)
    left = min(max((columns.start + columns.stop - side) // 2, 0), shape[1] - side)
    return left, top, left + side, top + side


if __name__ == "__main__":
    main()
