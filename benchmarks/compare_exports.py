"""How much faster our exports run than a plain transcription through the same converters.

    python benchmarks/compare_exports.py [--rounds 8]
    python benchmarks/compare_exports.py --precisions int8 dynamic     how much faster these are than our own fp32

Smallest, a middle and the largest `nasvit` subnet with random weights, one thread, interleaved in one
run, beside a timm efficientnet_b0; median of rounds. Needs the extras onnx and tflite, onnxscript and timm.
"""

from __future__ import annotations

import argparse
import logging
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from plain_nasvit import PlainSubnet
from torch import nn

import nasvit_edge as ne
from nasvit_edge import files
from nasvit_edge.export import onnx, tflite
from nasvit_edge.export.formats import format_for
from nasvit_edge.model.subnet import fold, materialise
from nasvit_edge.profile.models import Item, Models, composition_subnets, subnet_id
from nasvit_edge.transport.job import Job
from nasvit_edge.transport.local import local_runner

SIZES = ("smallest", "middle", "largest")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--precisions", nargs="+", default=[])
    parser.add_argument("--runtimes", nargs="+", default=["onnxruntime", "litert"])
    options = parser.parse_args()
    rounds = options.rounds
    logging.disable(logging.WARNING)
    with TemporaryDirectory() as folder:
        for runtime in options.runtimes if options.precisions else ():
            paths = at_precisions(Path(folder), runtime, options.precisions)
            report_precisions(runtime, measure(runtime, paths, rounds))
        if options.precisions:
            return
        for runtime, layout, plain, ours in (
            ("onnxruntime", "NCHW", _plain_onnx, onnx.convert),
            ("litert", "NHWC", tflite.convert, tflite.convert),
        ):
            report(runtime, measure(runtime, models(Path(folder), layout, plain, ours), rounds))


def models(folder: Path, layout: str, plain: Callable, ours: Callable) -> dict[str, Path]:
    """Name -> model file: NAME.plain and NAME.ours for each size, and the known network."""
    import timm

    space = ne.load_space("nasvit")
    supernet = ne.load_supernet("random", space)
    middle = sorted(composition_subnets(space, 24, 0), key=lambda c: ne.macs(space, c))[12]
    modules = {"efficientnet_b0": (plain, timm.create_model("efficientnet_b0").eval(), 224)}
    for name, config in zip(SIZES, (space.smallest(), middle, space.largest()), strict=True):
        subnet = materialise(supernet, config)
        modules[f"{name}.plain"] = (plain, PlainSubnet(subnet).eval(), config.resolution)
        modules[f"{name}.ours"] = (ours, fold(subnet, layout), config.resolution)
    paths = {}
    for name, (convert, module, side) in modules.items():
        started = time.perf_counter()
        paths[name] = folder / f"{name}.{layout}"
        paths[name].write_bytes(convert(module, (1, 3, side, side)))
        print(f"{name:20} converted in {time.perf_counter() - started:.1f} s")
    return paths


def at_precisions(folder: Path, runtime: str, precisions: list[str]) -> dict[str, Path]:
    """Name -> model file: SPACE-SIZE.PRECISION, fp32 first, as a profile makes them."""
    paths = {}
    for space in map(ne.load_space, ("nasvit", "nano")):
        configs = {"smallest": space.smallest(), "largest": space.largest()}
        if space.name == "nasvit":
            middle = sorted(composition_subnets(space, 24, 0), key=lambda c: ne.macs(space, c))[12]
            configs = {"smallest": configs["smallest"], "middle": middle, "largest": configs["largest"]}
        for size, config in configs.items():
            for precision in ("fp32", *precisions):
                models = Models(space, runtime, folder, 0, precision)
                if precision in format_for(runtime).thresholds:
                    item = Item(subnet_id(config), config=config)
                    paths[f"{space.name}-{size}.{precision}"] = models.path(item)[0]
    return paths


def report_precisions(runtime: str, medians: dict[str, list[float]]) -> None:
    """Print medians, and the ratios to fp32 of each round."""
    print(f"\n{runtime}, 1 thread, ms: median of rounds (lowest .. highest), and fp32 over it")
    for name, values in medians.items():
        base = medians[f"{name.partition('.')[0]}.fp32"]
        ratios = sorted(f / v for f, v in zip(base, values, strict=True))
        spread = f"{statistics.median(ratios):.2f}x ({ratios[0]:.2f} .. {ratios[-1]:.2f})"
        print(
            f"  {name:24} {statistics.median(values):7.3f}  ({min(values):.3f} .. {max(values):.3f})  {spread}"
        )


def _plain_onnx(module: nn.Module, shape: tuple[int, ...]) -> bytes:
    program = torch.onnx.export(module, (torch.zeros(shape),), dynamo=True, opset_version=18, verbose=False)
    return program.model_proto.SerializeToString()


def measure(runtime: str, paths: dict[str, Path], rounds: int) -> dict[str, list[float]]:
    """Medians in ms, one a round; all models once in every round."""
    medians: dict[str, list[float]] = {name: [] for name in paths}
    with local_runner(files.shipped("devices") / "host" / "runner.py") as runner:
        for seed in range(rounds):
            for name, path in paths.items():
                job = _job(name, path, runtime, seed)
                medians[name].append(statistics.median(runner.measure(job).samples_us) / 1e3)
    return medians


def _job(name: str, path: Path, runtime: str, seed: int) -> Job:
    length = {"runs": 5, "seconds": 0.5, "most_seconds": 0.5, "precision": 0.0}
    return Job(id=name, model=str(path), runtime=runtime, threads=1, cores=(), seed=seed, **length)


def report(runtime: str, medians: dict[str, list[float]]) -> None:
    """Print medians, the spread over rounds, and the ratios."""
    print(f"\n{runtime}, 1 thread, ms: median of rounds (lowest .. highest)")
    for name, values in medians.items():
        print(f"  {name:20} {statistics.median(values):7.2f}  ({min(values):.2f} .. {max(values):.2f})")
    ratios = []
    for size in SIZES:
        pairs = zip(medians[f"{size}.plain"], medians[f"{size}.ours"], strict=True)
        ratios.append(statistics.median(p / o for p, o in pairs))
        known = statistics.median(medians[f"{size}.plain"]) / statistics.median(medians["efficientnet_b0"])
        print(f"  {size:10} {ratios[-1]:.3f}x faster than plain; plain is {known:.2f} efficientnet_b0")
    print(f"  geometric mean {math.prod(ratios) ** (1 / len(ratios)):.3f}x")


if __name__ == "__main__":
    main()
