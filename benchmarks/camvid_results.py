"""What is kept of the runs of `camvid.py`, and the page that is written from it."""

import csv
import datetime
import json
import statistics
from pathlib import Path

from nasvit_edge import files
from nasvit_edge.benchmark.result import read_result
from nasvit_edge.device import cpu_model

SHARED = "shared"  # in the supernet, not trained alone


def folder(options, budget, start, seed) -> Path:
    return options.out / f"{budget}-{start}-{seed}"


def keep(options, formats) -> None:
    """A small file for each segmenter that was judged, and for each exported file."""
    options.results.mkdir(parents=True, exist_ok=True)
    for budget in options.budgets:
        for start in (SHARED, *options.starts):
            for seed in range(options.seeds):
                test = folder(options, budget, start, seed) / "test.json"
                if test.exists():
                    kept = common(options, budget) | {"start": start, "seed": seed} | measured(test)
                    name = f"{budget}-{start}-{seed}-{options.epochs}.json"
                    files.write_json(options.results / name, kept)
        if (options.out / "latency" / "benchmark.json").exists():
            kept = common(options, budget) | latency(options, budget)
            files.write_json(options.results / f"{budget}-latency-{options.epochs}.json", kept)
        for name in formats:
            test = options.out / f"{budget}-{name}" / f"{budget}.test.json"
            if test.exists():
                report = json.loads(test.read_text())
                facts = {key: report[key] for key in ("bytes", "passed", "pixels", "scenes")}
                kept = common(options, budget) | {"format": name, "file": facts}
                files.write_json(options.results / f"{budget}-{name}-{options.epochs}.json", kept)


def common(options, budget) -> dict:
    best = json.loads((options.out / f"{budget}.json").read_text())["best"]
    return {
        "schema": 1,
        "budget": budget,
        "epochs": options.epochs,
        "weights": options.weights,
        "latency_ms": best["latency_ms"],
        "date": datetime.date.today().isoformat(),
        "cpu": cpu_model(),
    }


def latency(options, budget) -> dict:
    """The median over rounds, and the fastest and slowest round."""
    result = read_result(options.out / "latency" / "benchmark.json")
    artifact = next(a for a in result.artifacts if budget in a.name)
    rounds = sorted(statistics.median(entry.samples_us) / 1e3 for entry in artifact.rounds)
    return {"measured_ms": statistics.median(rounds), "rounds_ms": rounds}


def measured(test: Path) -> dict:
    report = json.loads(test.read_text())
    row = report["subnets"][0]
    facts = {name: row[name] for name in ("config", "macs", "parameters", "pixel_accuracy", "ious")}
    curve = validations(test.with_name("validation.csv"))
    return facts | {"mean_iou": row["accuracy"], "majority": report["majority"], "validation": curve}


def validations(log: Path) -> dict[str, float]:
    """The mean IoU on the validation scenes after so many epochs of training alone."""
    if not log.exists():
        return {}
    with log.open() as rows:
        return {row["epoch"]: float(row["accuracy"]) for row in csv.DictReader(rows)}


def page(options, formats) -> str:
    """Markdown; a partial grid is called partial."""
    kept = [files.read_json(path, "kept result", 1) for path in sorted(options.results.glob("*.json"))]
    kept = [row for row in kept if row["epochs"] == options.epochs and row["budget"] in options.budgets]
    runs = [row for row in kept if "seed" in row]
    rows = [row for row in kept if "format" in row]
    times = {row["budget"]: row for row in kept if "measured_ms" in row}
    parts = (
        head(options, runs),
        table(options, runs, times),
        gains(options, runs),
        curves(options, runs),
        classes(options, runs),
        exports(options, formats, rows),
        picture(options),
    )
    return "\n".join(line for part in parts for line in part).strip() + "\n"


def head(options, runs):
    alone = [row for row in runs if row["start"] != SHARED]
    wanted = len(options.budgets) * len(options.starts) * options.seeds
    state = f"{len(alone)} of {wanted} runs" + ("" if len(alone) == wanted else " (partial)")
    yield from ("# CamVid", "")
    yield (
        f"{state}, {options.epochs} epochs of 91 steps of 4 crops each; 367 scenes to train on, 233 test scenes of 480x360, single scale. "
        f"The architectures were found by `search` in `nano-dense` for latency budgets of one machine"
        + (f" ({runs[0]['cpu']}, ONNX Runtime, one thread, fp32)" if runs else "")
        + ", by a predictor of mean IoU fitted to subnets of a supernet trained here. Each was then trained alone for as many steps: *pretrained*, from "
        f"the stages of `{options.weights}` (a classifier of 32x32 images) with a new stem and decoder; from *scratch*; and from its own weights in the "
        f"*supernet*, which had {options.supernet_epochs} epochs on these scenes before. *Shared* is what the supernet's weights score without training alone."
    )
    yield from ("", "    python benchmarks/camvid.py --data CAMVID --out runs/camvid", "")
    yield (
        "makes everything again; `--list` prints the commands, with what differs from the recipes `scenes` and `finetune-scenes`. The larger budgets "
        "were searched among larger images (`--resolution 240,288` and `288,360`): the supernet, trained on crops of 320x240, judges larger images too low "
        "([predictors](accuracy.md)), so that its search would take the smallest ones for any budget."
    )
    yield ""


def table(options, runs, times):
    yield "| budget | predicted | measured | MACs | parameters | start | seeds | mean IoU | pixels |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for budget in options.budgets:
        for start in (*options.starts, SHARED):
            rows = chosen(runs, budget, start)
            if rows:
                first = rows[0]
                about = f"{first['latency_ms']:.2f} ms | {seen(times.get(budget))} | {first['macs'] / 1e6:.0f} M | {first['parameters'] / 1e3:.0f} k"
                figures = f"{spread(rows, 'mean_iou')} | {spread(rows, 'pixel_accuracy')}"
                yield f"| {budget} | {about} | {start} | {len(rows)} | {figures} |"
    if runs:
        base = runs[0]["majority"]
        shares = f"{base['accuracy']:.1%} | {base['pixel_accuracy']:.1%}"
        yield f"| | | | | | every pixel by the most frequent class | | {shares} |"
    note = "Mean over seeds and, with two or more, the standard deviation. Measured: the median of 12 rounds of the exported ONNX file, fastest and slowest."
    yield from ("", note, "")


def seen(row) -> str:
    if row is None:
        return "-"
    return f"{row['measured_ms']:.2f} ms ({row['rounds_ms'][0]:.2f} to {row['rounds_ms'][-1]:.2f})"


def gains(options, runs):
    """What a start brings over scratch: pairs of runs with the same seed."""
    if lines := [
        line for budget in options.budgets for start in options.starts for line in gain(runs, budget, start)
    ]:
        yield from (
            "Points of mean IoU over scratch, of runs with the same seed:",
            "",
            "| budget | start | each seed | mean |",
        )
        yield from ("|---|---|---|---|", *lines, "")


def gain(runs, budget, start):
    base = {row["seed"]: row["mean_iou"] for row in chosen(runs, budget, "scratch")}
    rows = [row for row in chosen(runs, budget, start) if row["seed"] in base and start != "scratch"]
    points = [100 * (row["mean_iou"] - base[row["seed"]]) for row in rows]
    if points:
        each = ", ".join(f"{value:+.1f}" for value in points)
        yield f"| {budget} | {start} | {each} | {statistics.mean(points):+.1f} |"


def curves(options, runs):
    """The mean IoU on the validation scenes in the course of training, mean over seeds."""
    rows = {(b, s): chosen(runs, b, s) for b in options.budgets for s in options.starts}
    epochs = sorted(
        {int(e) for entries in rows.values() for row in entries for e in row.get("validation", {})}
    )
    if epochs:
        yield from ("On the 101 validation scenes in the course of training (mean over seeds):", "")
        yield "| budget | start | " + " | ".join(f"epoch {epoch}" for epoch in epochs) + " |"
        yield "|---" * (len(epochs) + 2) + "|"
    for (budget, start), entries in rows.items():
        if entries and all(row.get("validation") for row in entries):
            means = [statistics.mean(row["validation"][str(epoch)] for row in entries) for epoch in epochs]
            yield f"| {budget} | {start} | " + " | ".join(f"{mean:.1%}" for mean in means) + " |"
    yield ""


def classes(options, runs):
    columns = [(b, s) for b in options.budgets for s in options.starts if chosen(runs, b, s)]
    if not columns:
        return
    yield from ("IoU of each class:", "", "| class | " + " | ".join(f"{b}, {s}" for b, s in columns) + " |")
    yield "|---" * (len(columns) + 1) + "|"
    for name in runs[0]["ious"]:
        means = [statistics.mean(row["ious"][name] for row in chosen(runs, *column)) for column in columns]
        yield f"| {name} | " + " | ".join(f"{mean:.1%}" for mean in means) + " |"
    yield ""


def exports(options, formats, rows):
    if not rows:
        return
    yield from (
        "Exported files (pretrained, first seed), each run by its own runtime on the test scenes:",
        "",
    )
    yield from (
        "| budget | format | size | mean IoU | in PyTorch | difference |",
        "|---|---|---|---|---|---|",
    )
    for budget in options.budgets:
        for name in formats:
            for row in rows:
                if (row["budget"], row["format"]) == (budget, name):
                    yield f"| {budget} | {name} | {figures(row['file'])} |"


def figures(report) -> str:
    """Of a file: its size, what it scores, what PyTorch scores, and the points between them."""
    value, other = report["scenes"]["mean_iou"], report["scenes"]["reference"]["mean_iou"]
    return f"{report['bytes'] / 1e6:.1f} MB | {value:.2%} | {other:.2%} | {100 * (value - other):+.4f} points"


def picture(options):
    drawn = options.report.with_suffix(".png")
    if drawn.exists():
        yield from (
            "",
            f"![Label maps of four test scenes: their masks, and each budget's segmenter]({drawn.name})",
            "",
        )
        yield f"`python benchmarks/camvid_pictures.py --data CAMVID --out runs/camvid --picture {options.report.with_suffix('.png')}`"


def chosen(runs, budget, start):
    return [row for row in runs if (row["budget"], row["start"]) == (budget, start)]


def spread(rows, name) -> str:
    values = [row[name] for row in rows]
    mean = f"{statistics.mean(values):.1%}"
    return mean if len(values) < 2 else f"{mean} ± {100 * statistics.stdev(values):.1f}"
