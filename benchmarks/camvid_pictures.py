"""Pictures of what the exported segmenters of `camvid.py` see: python benchmarks/camvid_pictures.py --data CAMVID --out runs/camvid

Label maps of some test scenes, without the photographs: `--picture docs/camvid.png`. With the photographs below them, for
looking at here: OUT/overlays.html.
"""

import argparse
import base64
import html
import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from nasvit_edge import files
from nasvit_edge.data_sets.scenes import IGNORE, load_scenes
from nasvit_edge.export import dense, onnx
from nasvit_edge.space import load_space

SIDE = (240, 180)  # of a map in the picture
LINE, GAP = 16, 6  # pixels
NOTHING = (70, 70, 70)  # of pixels without a class


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", required=True, help="CamVid as folders train, val and test")
    parser.add_argument("--out", type=Path, default=Path("runs/camvid"), help="of camvid.py")
    parser.add_argument("--budgets", nargs="*", default=["2.5ms", "15ms"])
    parser.add_argument("--scenes", type=int, default=4)
    parser.add_argument("--picture", type=Path, help="write the label maps as PNG")
    options = parser.parse_args()
    shown = scenes(options)
    overlays(options.out / "overlays.html", shown)
    if options.picture:
        files.write_bytes(options.picture, png(label_maps(shown)))
        print(f"wrote {options.picture}")


def scenes(options):
    """For each scene its photograph (H, W, 3) and, by name, maps of labels (H, W): the mask and each segmenter's."""
    space = load_space("nano-dense")
    test = load_scenes(options.data, "test", space)
    places = np.linspace(0, len(test) - 1, options.scenes).astype(int)
    test = test.take("some", places)
    shown = []
    for index in range(len(test)):
        photograph, mask = test.pair(index)
        shown.append((photograph.transpose(1, 2, 0), {"mask": mask}))
    for budget in options.budgets:
        path = options.out / f"{budget}-onnx" / f"{budget}.onnx"
        resolution = int(onnx.read_metadata(path)["input_height"])
        run = onnx.runner(path)
        batches = test.batches(space, resolution, 1)
        for (images, masks), (_, maps) in zip(batches, shown, strict=True):
            size = (masks.shape[1], masks.shape[2])
            maps[budget] = dense.at_size(run(images.numpy()), size)[0]
    return shown


def colours() -> np.ndarray:
    table = np.full((256, 3), NOTHING, np.uint8)
    palette = dense.palette(load_space("nano-dense").classes)
    table[: len(palette)] = palette
    table[IGNORE] = NOTHING
    return table


def label_maps(shown) -> Image.Image:
    """A row a scene, a column a map, headings and the classes' colours."""
    table, names = colours(), list(shown[0][1])
    labels = load_space("nano-dense").label_names()
    width = len(names) * (SIDE[0] + GAP) - GAP
    height = LINE + len(shown) * (SIDE[1] + GAP) + 2 * LINE
    picture = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(picture)
    for column, name in enumerate(names):
        draw.text((column * (SIDE[0] + GAP), 1), name, "black")
        for row, (_, maps) in enumerate(shown):
            drawn = Image.fromarray(table[maps[name]]).resize(SIDE, Image.Resampling.NEAREST)
            picture.paste(drawn, (column * (SIDE[0] + GAP), LINE + row * (SIDE[1] + GAP)))
    each = width // ((len(labels) + 1) // 2)
    for index, label in enumerate(labels):
        line, place = divmod(index, (len(labels) + 1) // 2)
        left, top = place * each, height - (2 - line) * LINE + 2
        draw.rectangle((left, top, left + 11, top + 11), tuple(table[index]))
        draw.text((left + 16, top), label, "black")
    return picture


def overlays(path: Path, shown) -> None:
    """A page with the maps over their photographs."""
    table = colours()
    rows = []
    for photograph, maps in shown:
        cells = [(name, photograph // 2 + table[labels] // 2) for name, labels in maps.items()]
        images = [
            (name, jpeg(Image.fromarray(mixed))) for name, mixed in (("photograph", photograph), *cells)
        ]
        rows.append(
            "".join(
                f'<figure><img src="{source}"><figcaption>{html.escape(name)}</figcaption></figure>'
                for name, source in images
            )
        )
    style = "<style>div{display:flex;gap:6px}figure{margin:0 0 6px}img{width:23vw}body{font:14px sans-serif}</style>"
    page = f"<!doctype html><meta charset=utf-8><title>CamVid</title>{style}" + "".join(
        f"<div>{row}</div>" for row in rows
    )
    files.write_text(path, page)
    print(f"wrote {path}")


def jpeg(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.quantize(64).save(file, "PNG", optimize=True)
    return file.getvalue()


if __name__ == "__main__":
    main()
