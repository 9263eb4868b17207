"""Verdicts on this machine, where the truth is known: python benchmarks/real_verdicts.py [--aa 20] [--slower 10]

The same file against itself: every regression is a false alarm. Then against a subnet with one wider layer, chosen so that it takes
about 8 % more (measured first, in many rounds): every verdict but `regression` is a miss. Files have random weights; they are of
small subnets, as what fits the caches of a core is not slowed by what others do to a shared one.
"""

import argparse
import tempfile
import time
from pathlib import Path

from nasvit_edge.benchmark.metrics import METRICS, changes
from nasvit_edge.benchmark.report import make_report, noise_of
from nasvit_edge.benchmark.statistics import compare_logs
from nasvit_edge.benchmark.verdicts import Rule, candidates
from nasvit_edge.flows.benchmark import run
from nasvit_edge.profile.models import Item, Models
from nasvit_edge.requests.benchmark import Request
from nasvit_edge.space import load_space

SLOWER = 0.08


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--aa", type=int, default=20)
    parser.add_argument("--slower", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=0.3)
    parser.add_argument("--runtime", default="onnxruntime")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        space = load_space("nano")
        models = Models(space, options.runtime, folder)
        values = space.smallest().to_dict() | {"resolution": max(space.resolutions)}
        base = Path(models.path(Item("base", config=space.config_from(values, "base")))[0])
        trials(options, folder, base, None, options.aa)
        if options.slower:
            trials(options, folder, wider_than(options, folder, models, base, values), base, options.slower)


def measured(options, folder, artifact, baseline, rounds):
    """One session's result."""
    request = Request(
        artifacts=[artifact],
        baseline=None if baseline is None else [baseline],
        aa=baseline is None,
        runtime=options.runtime,
        rounds=rounds,
        seconds=options.seconds,
        out=folder / "benchmark.json",
    )
    return run(request)


def trials(options, folder, artifact, baseline, count):
    """Sessions one after another; prints each p50's verdict."""
    what = "A/A" if baseline is None else "slower"
    verdicts = []
    for number in range(count):
        start = time.perf_counter()
        result = measured(options, folder, artifact, baseline, options.rounds)
        report = make_report([result], Rule())
        cell = next(c for c in report.cells if c.metric.name == "latency_p50")
        alarms = [c.metric.name for c in report.cells if c.fails]
        verdicts.append((cell.verdict, bool(alarms)))
        noise = noise_of(result, candidates(result)[0], Rule())
        print(
            f"{what} {number + 1:2d}: {cell.verdict:12s} {cell.change.value:+.1%} ({cell.change.low:+.1%} .. {cell.change.high:+.1%})"
            f"  pair sd {noise.paired if noise else 0:.1%}  {', '.join(alarms) or '-'}  {cell.reason}  ({time.perf_counter() - start:.0f} s)",
            flush=True,
        )
    counts = {name: sum(v == name for v, _ in verdicts) for name in dict(verdicts)}
    print(
        f"{what}: {count} sessions of {options.rounds} rounds: p50 {counts}; any metric that gates: {sum(a for _, a in verdicts)} regressions"
    )


def wider_than(options, folder, models, base, values):
    """Of the subnets with one larger choice, the one that takes most nearly 8 % more than `base`."""
    space, best = models.space, None
    for gene in space.genes:
        if gene.kind not in ("width", "expand_ratio", "kernel_size") or len(gene.choices) < 2:
            continue
        larger = {
            key: list(value) if isinstance(value, list | tuple) else value for key, value in values.items()
        }
        larger[gene.kind][gene.index] = gene.choices[1]
        name = f"{gene.kind} {gene.index} of {gene.choices[1]}"
        path = Path(models.path(Item(name, config=space.config_from(larger, name)))[0])
        ratio = ratio_of(measured(options, folder, path, base, 3))
        if best is None or abs(ratio - 1 - SLOWER) < abs(best[0] - 1 - SLOWER):
            best = (ratio, name, path)
    check = ratio_of(measured(options, folder, best[2], base, 12))
    print(f"the wider subnet has a {best[1]} and takes {check - 1:+.1%} (12 rounds)", flush=True)
    return best[2]


def ratio_of(result):
    base, candidate = result.artifacts
    ratios = list(changes(base, candidate, METRICS["latency_p50"]).values())
    return compare_logs(ratios).ratio.value if ratios else float("nan")


if __name__ == "__main__":
    main()
