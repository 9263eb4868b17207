"""What training in 8-bit arithmetic brings to the int8 file: python benchmarks/qat.py

Subnets of `nano` (the smallest, and one in the middle at the smallest resolution) are trained by `finetune --quantise
int8` on Fashion-MNIST and exported to ONNX. Top-1 of the files on the 10,000 test images, the float and the int8 file of
the untouched subnet beside them, and how sure a difference is: of images that only one of two files gets right, b and
c, (b - c) / sqrt(b + c) is the number of standard deviations. Two to three minutes for both on one core.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np

import nasvit_edge as ne
from nasvit_edge import data_sets, ops
from nasvit_edge.export import onnx, parity
from nasvit_edge.flows import export, finetune
from nasvit_edge.listening import SILENT
from nasvit_edge.requests.export import Request as ExportRequest
from nasvit_edge.requests.finetune import Request as FinetuneRequest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--subnets", nargs="+", default=["smallest", "middle"])
    parser.add_argument(
        "--teachers", nargs="+", default=["itself"], help="as finetune --teacher: labels, nano"
    )
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="keep runs and files there, and reuse those that are")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name in options.subnets:
            measure(name, options.out or Path(folder), options)


def measure(name: str, folder: Path, options: argparse.Namespace) -> None:
    space = ne.load_space("nano")
    config = subnet(space, name)
    path = folder / f"{name}.json"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(config.to_dict()))
    print(f"{name}: {ops.macs(space, config) / 1e6:.2f} MMACs, {options.epochs} epochs, seed {options.seed}")
    images = data_sets.load_images("fashion-mnist", "test", space)
    before = {p: judged("as it is", "nano", "nano", path, p, images) for p in ("fp32", "int8")}
    print(f"    int8 against fp32: {sureness(before['int8'], before['fp32'])}", flush=True)
    for teacher in options.teachers:
        out = folder / f"{name}-{teacher}-{options.epochs}-{options.seed}"
        if not (out / "config.json").exists():
            tune(path, out, options, teacher)
        weights = (str(out / "space.toml"), str(out / "supernet.safetensors"))
        after = {p: judged(f"after {teacher}", *weights, path, p, images) for p in ("fp32", "int8")}
        for precision in ("int8", "fp32"):
            print(
                f"    its int8 against the untouched {precision}: {sureness(after['int8'], before[precision])}"
            )


def subnet(space, name):
    if name == "smallest":
        return space.smallest()
    middle = [sorted(gene.choices)[(len(gene.choices) - 1) // 2] for gene in space.genes]
    return space.from_choices([min(space.resolutions), *middle[1:]])


def tune(config: Path, out: Path, options: argparse.Namespace, teacher: str) -> None:
    started = time.monotonic()
    report = finetune.finetune(
        FinetuneRequest(
            data="fashion-mnist",
            out=out,
            space="nano",
            supernet="nano",
            config=config,
            values=(f"run.epochs={options.epochs}",),
            teacher=teacher,
            quantise="int8",
            seed=options.seed,
            threads=1,
        )
    )
    seconds = time.monotonic() - started
    text = ", ".join(f"{p} {report.before[p]:.2%} -> {report.after[p]:.2%}" for p in report.before)
    print(f"  taught by {teacher}: {report.steps} steps, {seconds:.0f} s; validation {text}", flush=True)


def judged(what: str, space: str, weights: str, config: Path, precision: str, images):
    """Which of the test images the exported file gets right."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        request = ExportRequest(
            space=space,
            supernet=weights,
            config=config,
            calibrate="fashion-mnist",
            precision=precision,
            out=path,
            force=True,
            cached=False,
        )
        snr_db = export.export(request, SILENT).snr_db
        run, loaded = onnx.runner(path, 1), ne.load_space(space)
        side = json.loads(config.read_text())["resolution"]
        correct = parity.choices(run, images, loaded, side) == images.labels.numpy()
    print(f"  {what:15} {precision}  {100 * correct.mean():.2f} %  {snr_db:.1f} dB to its float", flush=True)
    return correct


def sureness(one, other) -> str:
    b, c = int((one & ~other).sum()), int((other & ~one).sum())
    deviations = (b - c) / np.sqrt(max(1, b + c))
    return f"{100 * (one.mean() - other.mean()):+.2f} points, {deviations:+.1f} standard deviations"


if __name__ == "__main__":
    main()
