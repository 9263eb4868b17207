"""The page of `camvid.py`, written from what it kept."""

import statistics

from nasvit_edge import files


def page(options, starts, formats) -> str:
    """Markdown; a partial grid is called partial."""
    kept = [files.read_json(path, "kept result", 1) for path in sorted(options.results.glob("*.json"))]
    kept = [row for row in kept if row["epochs"] == options.epochs and row["budget"] in options.budgets]
    runs = [row for row in kept if "seed" in row]
    made = [row for row in kept if "format" in row]
    return "\n".join(
        [*head(options, starts, runs), *table(options, starts, runs), *classes(options, starts, runs)]
    ) + ("\n".join(exports(options, formats, made)) + "\n")


def head(options, starts, runs):
    wanted = len(options.budgets) * len(starts) * options.seeds
    state = f"{len(runs)} of {wanted} runs" + ("" if len(runs) == wanted else " (partial)")
    yield from ("# CamVid", "")
    yield (
        f"{state}, {options.epochs} epochs of 91 steps of 4 crops each; 367 scenes to train on, 233 test scenes of 480x360, single scale. "
        f"The architectures were found by `search` in `nano-dense` for two latency budgets of one machine"
        + (f" ({runs[0]['cpu']}, ONNX Runtime, one thread, fp32)" if runs else "")
        + ", by a predictor of mean IoU fitted to subnets of a supernet trained here. Each was then trained alone, from the stages of "
        f"`{options.weights}` (a classifier of 32x32 images) with a new stem and decoder, and from scratch."
    )
    yield from ("", "    python benchmarks/camvid.py --data CAMVID --out runs/camvid", "")
    yield from ("makes everything again, `--list` prints the commands.", "")


def table(options, starts, runs):
    yield "| budget | predicted | MACs | parameters | start | seeds | mean IoU | pixels |"
    yield "|---|---|---|---|---|---|---|---|"
    for budget in options.budgets:
        for start in starts:
            rows = chosen(runs, budget, start)
            if rows:
                first = rows[0]
                own = f"{first['latency_ms']:.2f} ms | {first['macs'] / 1e6:.0f} M | {first['parameters'] / 1e3:.0f} k"
                figures = f"{spread(rows, 'mean_iou')} | {spread(rows, 'pixel_accuracy')}"
                yield f"| {budget} | {own} | {start} | {len(rows)} | {figures} |"
    if runs:
        base = runs[0]["majority"]
        shares = f"{base['accuracy']:.1%} | {base['pixel_accuracy']:.1%}"
        yield f"| | | | | every pixel by the most frequent class | | {shares} |"
    yield from ("", "Mean over seeds and, with two or more, the standard deviation.", "")


def classes(options, starts, runs):
    columns = [(b, s) for b in options.budgets for s in starts if chosen(runs, b, s)]
    if not columns:
        return
    yield from ("IoU of each class:", "", "| class | " + " | ".join(f"{b}, {s}" for b, s in columns) + " |")
    yield "|---" * (len(columns) + 1) + "|"
    for name in runs[0]["ious"]:
        means = [statistics.mean(row["ious"][name] for row in chosen(runs, *column)) for column in columns]
        yield f"| {name} | " + " | ".join(f"{mean:.1%}" for mean in means) + " |"
    yield ""


def exports(options, formats, made):
    if not made:
        return
    yield from (
        "",
        "Exported files (pretrained, first seed), each run by its own runtime on the test scenes:",
        "",
    )
    yield from (
        "| budget | format | size | mean IoU | in PyTorch | difference |",
        "|---|---|---|---|---|---|",
    )
    for budget in options.budgets:
        for name in formats:
            for row in made:
                if (row["budget"], row["format"]) == (budget, name):
                    yield f"| {budget} | {name} | {figures(row['file'])} |"


def figures(report) -> str:
    """Of a file: its size, what it scores, what PyTorch scores, and the points between them."""
    own, other = report["scenes"]["mean_iou"], report["scenes"]["reference"]["mean_iou"]
    return f"{report['bytes'] / 1e6:.1f} MB | {own:.2%} | {other:.2%} | {100 * (own - other):+.4f} points"


def chosen(runs, budget, start):
    return [row for row in runs if (row["budget"], row["start"]) == (budget, start)]


def spread(rows, name) -> str:
    values = [row[name] for row in rows]
    mean = f"{statistics.mean(values):.1%}"
    return mean if len(values) < 2 else f"{mean} ± {100 * statistics.stdev(values):.1f}"
