"""Segmenters for CamVid found by search, trained from three starts: python benchmarks/camvid.py --data CAMVID --out runs/camvid

1. `train`: a supernet of nano-dense on CamVid, its stages from `--weights`; 2. `profile`: this machine; 3. `accuracy fit`: a predictor of
mean IoU from measured subnets; 4. `search`: a segmenter for each latency budget; 5. each trained alone for as many steps from the
pretrained stages, from scratch and from the supernet's weights, with several seeds; 6. `evaluate` on the test scenes, also of what was
found as it is in the supernet; 7. `export`, `verify` and `benchmark` of the files.
What is there already is not made again. What was measured is kept in `--results` (benchmarks/camvid_results), a small file each.
`--report docs/camvid.md` writes the page from what there is (camvid_results.py); `--list` prints the commands.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import camvid_results

from nasvit_edge import files
from nasvit_edge.space import load_space, space_toml

SPACE = "nano-dense"
STARTS = ("pretrained", "scratch", "supernet")
# Trained on crops, the supernet judges whole images the lower the larger they are, though small things need their pixels: a
# larger budget is searched among larger images.
RESOLUTIONS = {"10ms": ("--resolution", "240,288"), "15ms": ("--resolution", "288,360")}
FORMATS = {"onnx": "onnx", "tflite": "tflite"}
# What differs from the recipes, for some thousand steps of two cores: crops at scales nearer to the scenes', more steps of
# fewer crops, and a higher rate. The supernet sees smaller crops; a segmenter alone sees crops as large as its own images.
CROPS = ("scenes.height=240", "scenes.width=320")
CHANGES = (
    "scenes.smallest_scale=0.75",
    "scenes.largest_scale=1.5",
    "optimizer.learning_rate=4e-3",
    "run.batch_size=4",
    "optimizer.reference_batch=4",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", required=True, help="CamVid as folders train, val and test")
    parser.add_argument("--out", type=Path, default=Path("runs/camvid"))
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "camvid_results")
    parser.add_argument("--weights", default="nano-cifar10", help="a classifier's, for the pretrained stages")
    parser.add_argument("--budgets", nargs="*", default=["2.5ms", "10ms", "15ms"])
    parser.add_argument("--supernet-epochs", type=int, default=30)
    parser.add_argument("--epochs", type=int, default=50, help="of each segmenter alone")
    parser.add_argument("--samples", type=int, default=120, help="subnets that the predictor is fitted to")
    parser.add_argument("--starts", nargs="*", choices=STARTS, default=STARTS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2, help="segmenters trained at a time, one thread each")
    parser.add_argument("--hours", type=float, default=1e3, help="begin nothing new after so long")
    parser.add_argument("--report", type=Path, help="write the page and run nothing")
    parser.add_argument("--list", action="store_true", help="print the commands and run nothing")
    options = parser.parse_args()
    if options.report:
        files.write_text(options.report, camvid_results.page(options, FORMATS))
        print(f"wrote {options.report}")
    elif options.list:
        for chain in (
            searched(options),
            *shared(options),
            *trained(options),
            *exported(options),
            timed(options),
        ):
            for _, command in chain:
                print("nasvit-edge", *map(str, command))
    else:
        run(options)


def run(options) -> None:
    """Everything that is not there yet: the search step by step, then segmenters, some at a time, then their files."""
    end = time.monotonic() + 3600 * options.hours
    prepare(options)
    follow(searched(options), end)
    prepare(options)
    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(lambda chain: follow(chain, end), (*shared(options), *trained(options))))
    for chain in exported(options):
        follow(chain, end)
    follow(timed(options), end)
    camvid_results.keep(options, FORMATS)


def follow(chain, end) -> None:
    for file, command in chain:
        if not file.exists():
            if time.monotonic() > end:
                return
            step(file, command)


def searched(options):
    """What is made, and by which arguments of `nasvit-edge`: from the supernet to a result for each budget."""
    out, space = options.out, ("--space", SPACE)
    weights = out / "supernet" / "supernet.safetensors"
    table = out / "tables" / f"host-onnxruntime-1t-fp32-{SPACE}.json"
    predictor = out / "miou.json"
    start = (
        "--data",
        options.data,
        "--supernet",
        options.weights,
        "--recipe",
        "scenes",
        *changes(*CROPS, *CHANGES),
    )
    length = ("--epochs", options.supernet_epochs, "--validate-every", 10)
    fit = ("--supernet", weights, "--data", options.data, "--samples", options.samples)
    return [
        (weights, ("train", *space, *start, *length, "--out", weights.parent)),
        (table, ("profile", "--device", "host", *space, "--out", table.parent)),
        (predictor, ("accuracy", "fit", *space, *fit, "--out", predictor)),
        *(
            (
                result,
                (
                    "search",
                    *space,
                    "--latency",
                    budget,
                    *limits(budget),
                    *tables(table, predictor),
                    "--out",
                    result,
                ),
            )
            for budget in options.budgets
            for result in [out / f"{budget}.json"]
        ),
    ]


def limits(budget):
    return RESOLUTIONS.get(budget, ())


def tables(table, predictor):
    return ("--table", table, "--accuracy", predictor)


def changes(*values):
    return [part for value in values for part in ("--set", value)]


def shared(options):
    """A chain for each found segmenter: judged on the test scenes with the supernet's weights as they are."""
    weights = weights_of(options.out / "supernet")
    return [
        [
            (
                camvid_results.folder(options, budget, "shared", 0) / "test.json",
                ("evaluate", *weights, *judged(options, options.out / f"{budget}.json")),
            )
        ]
        for budget in options.budgets
    ]


def judged(options, subnets):
    return ("--data", options.data, "--split", "test", "--subnets", subnets, "--json", "--workers", 1)


def trained(options):
    """A chain for each found segmenter, start and seed: trained alone, and judged on the test scenes."""
    return [
        trained_one(options, budget, start, seed)
        for seed in range(options.seeds)
        for budget in reversed(options.budgets)
        for start in options.starts
    ]


def trained_one(options, budget, start, seed):
    out = camvid_results.folder(options, budget, start, seed)
    weights = {
        "pretrained": options.weights,
        "scratch": options.out / "scratch.safetensors",
        "supernet": options.out / "supernet" / "supernet.safetensors",
    }
    config = ("--config", options.out / f"{budget}-config.json")
    subnet = ("--space", SPACE, *config, "--supernet", weights[start])
    length = (
        "--epochs",
        options.epochs,
        "--seed",
        seed,
        "--threads",
        1 if options.jobs > 1 else 2,
        "--validate-every",
        10,
    )
    return [
        (
            out / "supernet.safetensors",
            ("finetune", *subnet, "--data", options.data, *changes(*CHANGES), *length, "--out", out),
        ),
        (out / "test.json", ("evaluate", *weights_of(out), *judged(options, "max"))),
    ]


def exported(options):
    """A chain for each budget and format: the pretrained segmenter of the first seed, where it is there, as a file, and the file judged."""
    return [
        [
            (file, ("export", *subnet_of(out), "--format", name, "--out", file, "--calibrate", options.data)),
            (
                file.with_suffix(".test.json"),
                ("verify", file, *weights_of(out), "--data", options.data, "--json"),
            ),
        ]
        for budget in options.budgets
        for out in [camvid_results.folder(options, budget, "pretrained", 0)]
        if (out / "test.json").exists() or options.list
        for name, suffix in FORMATS.items()
        for file in [options.out / f"{budget}-{name}" / f"{budget}.{suffix}"]
    ]


def timed(options):
    """The ONNX files of all budgets in turns, where they are all there; other programs should rest."""
    artifacts = [options.out / f"{budget}-onnx" / f"{budget}.onnx" for budget in options.budgets]
    if not options.list and not all(file.exists() for file in artifacts):
        return []
    result = options.out / "latency" / "benchmark.json"
    return [(result, ("benchmark", *artifacts, "--rounds", 12, "--out", result))]


def subnet_of(out):
    return (*weights_of(out), "--config", out / "config.json")


def weights_of(out):
    return ("--supernet", out / "supernet.safetensors", "--space", out / "space.toml")


def step(file, command) -> None:
    """One command; its log beside what it makes. A training that was stopped goes on."""
    stopped = file.suffix == ".safetensors" and list(file.parent.glob("checkpoints/*.pt"))
    file.parent.mkdir(parents=True, exist_ok=True)
    program = [
        sys.executable,
        "-m",
        "nasvit_edge.cli",
        *map(str, command),
        *(["--resume"] if stopped else []),
    ]
    started, log = time.monotonic(), file.parent / "output.log"
    environment = os.environ | ({"OMP_NUM_THREADS": "1"} if "--threads" in command else {})
    with log.open("a") as errors:
        done = subprocess.run(
            program, stdout=subprocess.PIPE, stderr=errors, text=True, check=False, env=environment
        )
    if done.returncode not in ((0, 3) if command[0] == "benchmark" else (0,)):  # 3: the machine was disturbed
        raise SystemExit(f"{' '.join(program)} ended with {done.returncode}; see {log}")
    if file.name.endswith("test.json"):
        files.write_text(file, done.stdout)
    print(f"{file}: {(time.monotonic() - started) / 60:.1f} minutes", flush=True)


def prepare(options) -> None:
    """What no command writes: the configs of found segmenters, and a segmenter's weights before any training."""
    from nasvit_edge.model.checkpoint import save_supernet
    from nasvit_edge.train.initial import initialised

    for budget in options.budgets:
        result = options.out / f"{budget}.json"
        if result.exists():
            best = json.loads(result.read_text())["best"]["config"]
            files.write_json(options.out / f"{budget}-config.json", best)
    scratch = options.out / "scratch.safetensors"
    if not scratch.exists():
        options.out.mkdir(parents=True, exist_ok=True)
        supernet = initialised(load_space(SPACE), 0)
        save_supernet(supernet, scratch, {"kind": "initialised", "seed": 0})
        files.write_text(options.out / "space.toml", space_toml(supernet.space))


if __name__ == "__main__":
    main()
