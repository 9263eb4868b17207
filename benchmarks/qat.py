"""What training in 8-bit arithmetic brings to the int8 file: python benchmarks/qat.py

Subnets of `nano` (the smallest, and one in the middle at the smallest resolution) are fine-tuned on Fashion-MNIST, once
in floating point and once with `--quantise int8`, each for the same epochs, and exported. Top-1 of the files on the
10,000 test images and on the 2,000 bundled ones, the float subnet beside them, and how sure a difference is: of images
that only one of two files gets right, b and c, (b - c) / sqrt(b + c) is the number of standard deviations. Minutes.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

import nasvit_edge as ne
from nasvit_edge import data_sets, ops
from nasvit_edge.export import onnx, parity
from nasvit_edge.flows import export, finetune


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--subnets", nargs="+", default=["smallest", "middle"])
    parser.add_argument("--out", type=Path, help="keep runs and files there, and reuse those that are")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name in options.subnets:
            measure(name, options.out or Path(folder), options.epochs, options.seed)


def measure(name: str, folder: Path, epochs: int, seed: int) -> None:
    space = ne.load_space("nano")
    config = subnet(space, name)
    folder = folder / f"{name}-{epochs}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "config.json"
    path.write_text(json.dumps(config.to_dict()))
    print(f"{name}: {ops.macs(space, config) / 1e6:.2f} MMACs, {epochs} epochs, seed {seed}", flush=True)
    sources = {"as it is": ("nano", "nano")}
    for kind, quantise in (("fine-tuned", ""), ("fine-tuned in int8", "int8")):
        out = folder / (quantise or "float")
        if not (out / "config.json").exists():
            tune(path, out, epochs, seed, quantise)
        sources[kind] = (str(out / "space.toml"), str(out / "supernet.safetensors"))
    found = {}
    for kind, (where, weights) in sources.items():
        for precision in ("fp32", "int8"):
            found[kind, precision] = right(where, weights, path, precision, folder / "model.onnx")
            whole, bundled = (100 * hits.mean() for hits in found[kind, precision])
            print(f"  {kind:20}{precision}  {whole:.2f} % of 10,000, {bundled:.2f} % of 2,000", flush=True)
    for other in ("as it is", "fine-tuned"):
        print(f"  int8 file after training in int8 against {other}: {sureness(found, other)}", flush=True)


def subnet(space, name):
    if name == "smallest":
        return space.smallest()
    middle = [sorted(gene.choices)[(len(gene.choices) - 1) // 2] for gene in space.genes]
    return space.from_choices([min(space.resolutions), *middle[1:]])


def tune(config: Path, out: Path, epochs: int, seed: int, quantise: str) -> None:
    finetune.finetune(
        finetune.Request(
            data="fashion-mnist",
            out=out,
            space="nano",
            supernet="nano",
            config=config,
            values=(f"run.epochs={epochs}",),
            quantise=quantise,
            seed=seed,
        )
    )


def right(space: str, weights: str, config: Path, precision: str, path: Path):
    """Which of the test images, and of the bundled ones, the file gets right."""
    request = export.Request(
        result=None,
        space=space,
        supernet=weights,
        config=config,
        calibrate="fashion-mnist",
        uncalibrated=False,
        format_name="onnx",
        precision=precision,
        out=path,
        overwrite=True,
        force=True,
        use_cache=False,
    )
    export.export(request, lambda line: None)
    run, loaded = onnx.runner(path, 1), ne.load_space(space)
    side = json.loads(config.read_text())["resolution"]
    sets = (data_sets.load_images("fashion-mnist", "test", loaded), data_sets.bundled("test"))
    return [parity.choices(run, images, loaded, side) == images.labels.numpy() for images in sets]


def sureness(found, other: str) -> str:
    after, before = found["fine-tuned in int8", "int8"][0], found[other, "int8"][0]
    b, c = int((after & ~before).sum()), int((before & ~after).sum())
    deviations = (b - c) / np.sqrt(max(1, b + c))
    return f"{100 * (after.mean() - before.mean()):+.2f} points, {deviations:+.1f} standard deviations"


if __name__ == "__main__":
    main()
