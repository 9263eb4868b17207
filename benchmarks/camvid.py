"""Segmenters for CamVid found by search, with and without pretraining: python benchmarks/camvid.py --data CAMVID --out runs/camvid

1. `train`: a supernet of nano-dense on CamVid, its stages from `--weights`; 2. `profile`: this machine; 3. `accuracy fit`: a predictor of
mean IoU from measured subnets; 4. `search`: a segmenter for each latency budget; 5. each trained alone for as many steps from the
pretrained stages and from scratch, with several seeds; 6. `evaluate` on the test scenes.
What is there already is not made again. What a finished run measured is kept in `--results` (benchmarks/camvid_results), a small file each.
`--report docs/camvid.md` writes the page from what there is; `--list` prints the commands.
"""

import argparse
import datetime
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from nasvit_edge import files
from nasvit_edge.device import cpu_model
from nasvit_edge.space import load_space, space_toml

SPACE = "nano-dense"
CROP = ("scenes.height=288", "scenes.width=384")
STARTS = ("pretrained", "scratch")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", required=True, help="CamVid as folders train, val and test")
    parser.add_argument("--out", type=Path, default=Path("runs/camvid"))
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "camvid_results")
    parser.add_argument("--weights", default="nano", help="a classifier's, for the pretrained stages")
    parser.add_argument("--budgets", nargs="*", default=["3ms", "8ms"])
    parser.add_argument("--epochs", type=int, default=80, help="of the supernet, and of each segmenter")
    parser.add_argument("--samples", type=int, default=60, help="subnets that the predictor is fitted to")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--hours", type=float, default=1e3, help="begin nothing new after so long")
    parser.add_argument("--report", type=Path, help="write the page and run nothing")
    parser.add_argument("--list", action="store_true", help="print the commands and run nothing")
    options = parser.parse_args()
    if options.report:
        files.write_text(options.report, page(options))
        print(f"wrote {options.report}")
        return
    end = time.monotonic() + 3600 * options.hours
    for made, command in (*searched(options), *trained(options)):
        if options.list:
            print("nasvit-edge", *map(str, command))
        elif not made.exists() and time.monotonic() < end:
            run(options, made, command)
    if not options.list:
        keep(options)


def searched(options):
    """What is made, and by which arguments of `nasvit-edge`: from the supernet to a result for each budget."""
    out, common = options.out, ("--space", SPACE)
    weights, table = (
        out / "supernet" / "supernet.safetensors",
        out / "tables" / f"host-onnxruntime-1t-fp32-{SPACE}.json",
    )
    training = ("train", *common, "--data", options.data, "--supernet", options.weights, "--recipe", "scenes")
    crops = [part for change in CROP for part in ("--set", change)]
    yield (
        weights,
        (*training, *crops, "--epochs", options.epochs, "--out", weights.parent, "--validate-every", 10),
    )
    yield table, ("profile", "--device", "host", *common, "--out", table.parent)
    fit = ("accuracy", "fit", *common, "--supernet", weights, "--data", options.data)
    yield out / "miou.json", (*fit, "--samples", options.samples, "--out", out / "miou.json")
    for budget in options.budgets:
        found = out / f"{budget}.json"
        yield (
            found,
            (
                "search",
                *common,
                "--latency",
                budget,
                "--table",
                table,
                "--accuracy",
                out / "miou.json",
                "--out",
                found,
            ),
        )


def trained(options):
    """Each found segmenter trained alone, and judged on the test scenes."""
    for seed in range(options.seeds):
        for budget in options.budgets:
            config = options.out / f"{budget}-config.json"
            for start in STARTS:
                out = options.out / f"{budget}-{start}-{seed}"
                yield (
                    out / "supernet.safetensors",
                    (
                        *(
                            "finetune",
                            "--space",
                            SPACE,
                            "--config",
                            config,
                            "--data",
                            options.data,
                            "--out",
                            out,
                        ),
                        *(
                            "--supernet",
                            options.weights if start == "pretrained" else options.out / "scratch.safetensors",
                        ),
                        *(part for change in CROP for part in ("--set", change)),
                        *("--epochs", options.epochs, "--seed", seed),
                    ),
                )
                yield (
                    out / "test.json",
                    (
                        *(
                            "evaluate",
                            "--supernet",
                            out / "supernet.safetensors",
                            "--space",
                            out / "space.toml",
                        ),
                        *("--data", options.data, "--split", "test", "--subnets", "max", "--json"),
                    ),
                )


def run(options, made, command) -> None:
    """One command; its log beside what it makes. A training that was stopped goes on."""
    prepare(options)
    resume = (
        ["--resume"] if list(made.parent.glob("checkpoints/*.pt")) and made.suffix == ".safetensors" else []
    )
    made.parent.mkdir(parents=True, exist_ok=True)
    program = [sys.executable, "-m", "nasvit_edge.cli", *map(str, command), *resume]
    started = time.monotonic()
    with (options.out / "output.log").open("a") as log:
        done = subprocess.run(program, stdout=subprocess.PIPE, stderr=log, text=True, check=False)
    if done.returncode:
        raise SystemExit(
            f"{' '.join(program)} ended with {done.returncode}; see {options.out / 'output.log'}"
        )
    if made.name == "test.json":
        files.write_text(made, done.stdout)
    print(f"{made}: {(time.monotonic() - started) / 60:.1f} minutes", flush=True)


def prepare(options) -> None:
    """What no command writes: the configs of found segmenters, and a classifier's weights before any training."""
    from nasvit_edge.model.checkpoint import save_supernet
    from nasvit_edge.train.initial import initialised

    for budget in options.budgets:
        found = options.out / f"{budget}.json"
        if found.exists():
            best = json.loads(found.read_text())["best"]["config"]
            files.write_json(options.out / f"{budget}-config.json", best)
    scratch = options.out / "scratch.safetensors"
    if not scratch.exists():
        options.out.mkdir(parents=True, exist_ok=True)
        supernet = initialised(load_space(SPACE), 0)
        save_supernet(supernet, scratch, {"kind": "initialised", "seed": 0})
        files.write_text(options.out / "space.toml", space_toml(supernet.space))


def keep(options) -> None:
    """A small file for each segmenter that was judged."""
    for budget in options.budgets:
        for start in STARTS:
            for seed in range(options.seeds):
                test = options.out / f"{budget}-{start}-{seed}" / "test.json"
                if test.exists():
                    report = json.loads(test.read_text())
                    row = report["subnets"][0]
                    best = json.loads((options.out / f"{budget}.json").read_text())["best"]
                    kept = {
                        "schema": 1,
                        "budget": budget,
                        "start": start,
                        "seed": seed,
                        "epochs": options.epochs,
                        "weights": options.weights,
                        "config": row["config"],
                        "macs": row["macs"],
                        "parameters": row["parameters"],
                        "latency_ms": best["latency_ms"],
                        "mean_iou": row["accuracy"],
                        "pixel_accuracy": row["pixel_accuracy"],
                        "ious": row["ious"],
                        "majority": report["majority"],
                        "date": datetime.date.today().isoformat(),
                        "cpu": cpu_model(),
                    }
                    options.results.mkdir(parents=True, exist_ok=True)
                    files.write_json(options.results / f"{budget}-{start}-{seed}-{options.epochs}.json", kept)


def page(options) -> str:
    """The results page, from what is kept; a partial grid is called partial."""
    kept = [files.read_json(path, "kept result", 1) for path in sorted(options.results.glob("*.json"))]
    kept = [row for row in kept if row["epochs"] == options.epochs]
    wanted = len(options.budgets) * len(STARTS) * options.seeds
    lines = [
        "# CamVid",
        "",
        f"{len(kept)} of {wanted} runs{'' if len(kept) == wanted else ' (partial)'}, {options.epochs} epochs each, 233 test scenes of 480x360, single scale.",
        "Commands: `python benchmarks/camvid.py --data CAMVID --list`.",
        "",
        "| budget | predicted | MACs | start | runs | mean IoU | pixels |",
        "|---|---|---|---|---|---|---|",
    ]
    for budget in options.budgets:
        for start in STARTS:
            rows = [row for row in kept if (row["budget"], row["start"]) == (budget, start)]
            if rows:
                first = rows[0]
                own = (f"{first['latency_ms']:.2f} ms", f"{first['macs'] / 1e6:.0f} M", start, len(rows))
                figures = (spread([r["mean_iou"] for r in rows]), spread([r["pixel_accuracy"] for r in rows]))
                lines.append(f"| {budget} | {' | '.join(map(str, (*own, *figures)))} |")
    if kept:
        base = kept[0]["majority"]
        lines.append(
            f"| every pixel by the most frequent class | | | | | {base['accuracy']:.1%} | {base['pixel_accuracy']:.1%} |"
        )
    return "\n".join(lines) + "\n"


def spread(values) -> str:
    mean = f"{statistics.mean(values):.1%}"
    return mean if len(values) < 2 else f"{mean} ± {100 * statistics.stdev(values):.1f}"


if __name__ == "__main__":
    main()
