"""The paper's investigations at the scale of two cores, on CIFAR-10: python benchmarks/paper.py --data CIFAR10 --out runs/paper

Every arm is one `nasvit-edge train` with the same number of epochs and the same data, then one `nasvit-edge evaluate` on
the test images (smallest, largest, the same 20 random subnets). Runs go on where they were when the command is given
again. What a finished run measured is kept in `--results` (benchmarks/paper_results), a small file each: the grid goes on from
there, on another machine too. `--report docs/results.md` writes the page from what there is and calls a partial grid partial.
`--list` prints the commands.
"""

import argparse
import csv
import datetime
import json
import os
import random
import statistics
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from paper_page import page

from nasvit_edge import files, ops
from nasvit_edge.data_sets import classes
from nasvit_edge.device import cpu_model
from nasvit_edge.report.conflicts import summarise
from nasvit_edge.space import load_space, space_toml
from nasvit_edge.train.conflict_file import read_conflicts

EPOCHS = 6  # 27 runs took 11.3 hours of one thread, 6 of two cores, and evaluation
SMALL = [  # every arm: batches, crops and warm-up as small images and few epochs want them
    *("run.epochs={epochs}", "run.warmup_epochs=1", "run.batch_size=128"),
    *("augment.crop=padded", "augment.padding=4"),
]
OURS = [  # the arms with NASViT's optimizer: what the recipe `nano` changes of `nasvit`, and projection after the warm-up
    *(
        "run.ema=0.999",
        "merge.project_from_epoch=1",
        "optimizer.learning_rate=3e-3",
        "optimizer.first_rate=1e-5",
    ),
    *("optimizer.last_rate=1e-5", "optimizer.reference_batch=128"),
]
UNMIXED = ["augment.mixup=0.0", "augment.cutmix=0.0"]
ALPHANET = ["augment.autoaugment=cifar10"]


@dataclass(frozen=True)
class Arm:
    """One line of the table: a recipe with its changes, on a space, and what it shows."""

    name: str
    about: str
    recipe: str
    changes: list[str]
    space: str = "nano"
    alone: str = ""  # the subnet that is trained from scratch


ARMS = [
    Arm("nasvit", "the whole method", "nasvit", OURS + UNMIXED),
    Arm("no-projection", "plain sum of the gradients", "nasvit-no-projection", OURS + UNMIXED),
    Arm("no-scaling", "no layer scaling", "nasvit-no-scaling", OURS + UNMIXED),
    Arm("strong-augmentation", "DeiT's augmentation", "deit", OURS),
    Arm("alphanet-recipe", "AlphaNet's recipe on the hybrid space", "alphanet", ALPHANET),
    Arm("cnn", "CNN space, plain sum of the gradients", "nasvit-no-projection", OURS + UNMIXED, "nano-cnn"),
    Arm("cnn-alphanet", "CNN space, AlphaNet's recipe", "alphanet", ALPHANET, "nano-cnn"),
    Arm(
        "scratch-smallest", "the smallest subnet alone, on labels", "single", OURS + UNMIXED, alone="smallest"
    ),
    Arm("scratch-middle", "a middle subnet alone, on labels", "single", OURS + UNMIXED, alone="middle"),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", required=True, help="CIFAR-10 as folders train/ and test/, or cifar10")
    parser.add_argument("--out", type=Path, default=Path("runs/paper"))
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "paper_results")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one thread each")
    parser.add_argument("--hours", type=float, default=1e3, help="begin nothing new after so long")
    parser.add_argument("--arms", nargs="*", choices=[a.name for a in ARMS], help="only these, in this order")
    parser.add_argument("--report", type=Path, help="write the page and run nothing")
    parser.add_argument("--list", action="store_true", help="print the commands and run nothing")
    options = parser.parse_args()
    named = {arm.name: arm for arm in ARMS}
    grid = [(named[name], seed) for seed in range(options.seeds) for name in options.arms or named]
    if options.report:
        files.write_text(options.report, page(options, ARMS, results(options)))
        print(f"wrote {options.report}")
        return
    prepare(options)
    if options.list:
        for arm, seed in grid:
            print(" ".join(train_command(options, arm, seed)))
        return
    run(options, grid)


def prepare(options) -> None:
    """The spaces of single subnets, and the random subnets that all arms are judged by."""
    labels = classes(options.data)
    for name in ("nano", "nano-cnn"):
        space = load_space(name).with_labels(labels)
        files.write_text(options.out / f"{name}.toml", space_toml(space))
        rng = random.Random(7)
        configs = [space.smallest(), space.largest(), *(space.sample(rng) for _ in range(20))]
        files.write_text(options.out / f"{name}.json", json.dumps([config.to_dict() for config in configs]))
    space = load_space(options.out / "nano.toml")
    for name, config in {"smallest": space.smallest(), "middle": middle(space)}.items():
        files.write_text(
            options.out / f"scratch-{name}.toml", space_toml(space.only(config, name=f"nano-{name}"))
        )
        files.write_text(options.out / f"scratch-{name}.json", json.dumps([config.to_dict()]))


def middle(space):
    """The one of 101 random subnets with the median number of multiply-accumulates."""
    rng = random.Random(3)
    return sorted((space.sample(rng) for _ in range(101)), key=lambda c: ops.macs(space, c))[50]


def folder(options, arm, seed) -> Path:
    return options.out / f"{arm.name}-{seed}"


def changes(options, arm) -> list[str]:
    return [text.format(epochs=options.epochs) for text in (*SMALL, *arm.changes)]


def train_command(options, arm, seed) -> list[str]:
    space = options.out / (f"scratch-{arm.alone}.toml" if arm.alone else f"{arm.space}.toml")
    out = folder(options, arm, seed)
    return [
        *(sys.executable, "-m", "nasvit_edge.cli", "train", "--space", str(space), "--data", options.data),
        *("--recipe", arm.recipe, "--out", str(out), "--seed", str(seed), "--threads", "1", "--workers", "0"),
        *("--validate-every", "0", "--checkpoint-minutes", "3", "--json"),
        *([] if arm.alone else ["--conflicts"]),
        *(part for change in changes(options, arm) for part in ("--set", change)),
    ]


def evaluations(options, arm, seed) -> dict[str, list[str]]:
    """File -> the command whose output it holds."""
    out = folder(options, arm, seed)

    def command(subnets):
        return [
            *(
                sys.executable,
                "-m",
                "nasvit_edge.cli",
                "evaluate",
                "--supernet",
                str(out / "supernet.safetensors"),
            ),
            *(
                "--space",
                str(out / "space.toml"),
                "--data",
                options.data,
                "--split",
                "test",
                "--workers",
                "1",
            ),
            *("--subnets", str(subnets), "--json"),
        ]

    if arm.alone:
        return {"test.json": command("max")}
    commands = {"test.json": command(options.out / f"{arm.space}.json")}
    if arm.name == "nasvit":
        names = ("smallest", "middle")
        commands |= {f"test-{n}.json": command(options.out / f"scratch-{n}.json") for n in names}
    return commands


def run(options, grid) -> None:
    """The grid, some at a time; Ctrl-C ends the runs with checkpoints."""
    end = time.monotonic() + 3600 * options.hours
    stop = threading.Event()
    with ThreadPoolExecutor(options.jobs) as pool:
        futures = [pool.submit(one, options, arm, seed, end, stop) for arm, seed in grid]
        try:
            for future in futures:
                future.result()
        except BaseException:
            stop.set()
            raise
    print(f"{sum(done(options, a, s) for a, s in grid)} of {len(grid)} runs are complete")


def record(options, arm, seed) -> Path:
    return options.results / f"{arm.name}-{seed}-{options.epochs}.json"


def done(options, arm, seed) -> bool:
    return record(options, arm, seed).exists()


def one(options, arm, seed, end, stop) -> None:
    out = folder(options, arm, seed)
    trained = (out / "supernet.safetensors").exists()
    if done(options, arm, seed) or stop.is_set() or (time.monotonic() > end and not trained):
        return
    out.mkdir(parents=True, exist_ok=True)
    started, log = time.monotonic(), (out / "output.log").open("a")
    if not trained:
        resume = ["--resume"] if list(out.glob("checkpoints/step-*.pt")) else []
        child([*train_command(options, arm, seed), *resume], log, stop)
    for name, command in evaluations(options, arm, seed).items():
        if not (out / name).exists() and not stop.is_set():
            files.write_text(out / name, child(command, log, stop))
    if stop.is_set():
        return
    kept = {
        "schema": 1,
        "arm": arm.name,
        "seed": seed,
        "epochs": options.epochs,
        "recipe": arm.recipe,
        "changes": changes(options, arm),
        "measured": measured(options, arm, seed),
        "date": datetime.date.today().isoformat(),
        "cpu": cpu_model(),
    }
    options.results.mkdir(parents=True, exist_ok=True)
    files.write_json(record(options, arm, seed), kept)
    print(f"{out.name}: {(time.monotonic() - started) / 60:.1f} minutes", flush=True)


def end_when(stop, process) -> None:
    stop.wait()
    process.terminate()


def child(command, log, stop) -> str:
    """The output of a process, which is ended when the grid is."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment) as process:
        watcher = threading.Thread(target=end_when, args=(stop, process), daemon=True)
        watcher.start()
        printed, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}; see {log.name}")
    return printed


def results(options) -> dict[str, dict[int, dict]]:
    """Arm -> seed -> what is kept of the runs that are complete."""
    by_arm: dict[str, dict[int, dict]] = {}
    for arm in ARMS:
        for seed in range(options.seeds):
            if done(options, arm, seed):
                kept = files.read_json(record(options, arm, seed), "kept result", 1)
                by_arm.setdefault(arm.name, {})[seed] = kept
    return by_arm


def measured(options, arm, seed) -> dict:
    out = folder(options, arm, seed)
    names = evaluations(options, arm, seed)
    tops = {
        name: [row["accuracy"] for row in json.loads((out / name).read_text())["subnets"]] for name in names
    }
    if arm.alone:
        return {"alone": tops["test.json"][0], "minutes": minutes(out)}
    smallest, largest, *others = tops.pop("test.json")
    shares = conflicts(out)
    figures = {
        "smallest": smallest,
        "random": statistics.mean(others),
        "largest": largest,
        "minutes": minutes(out),
        **shares,
    }
    return figures | {name.removesuffix(".json").removeprefix("test-"): top[0] for name, top in tops.items()}


def minutes(run: Path) -> float:
    """What training takes at its median rate: the clock would count pauses and what else the machine did."""
    with (run / "log.csv").open() as file:
        seconds = [1 / float(row["images_per_s"]) for row in csv.DictReader(file)]
    batch = json.loads((run / "recipe.json").read_text())["recipe"]["run"]["batch_size"]
    return len(seconds) * batch * statistics.median(seconds) / 60


def conflicts(run: Path) -> dict:
    """The shares of negative cosines after the first epoch, as `report conflicts RUN --from-epoch 1` tells them."""
    summary = summarise(read_conflicts(run).epochs(1, None))
    shares = {"negative": summary.all.negative, "negative layers": summary.layers.negative}
    kinds = {group.kind: group.negative for group in summary.kinds if group.negative is not None}
    return shares | {"kinds": kinds}


if __name__ == "__main__":
    main()
