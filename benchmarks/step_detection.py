"""How often steps are found where there are none, and how often one that is there: made-up histories with known truth.

    python benchmarks/step_detection.py --series 1000            # two or three minutes
    python benchmarks/step_detection.py --series 50 --ruptures   # beside ruptures' PELT; many minutes

A series: log latency with noise between runs, single runs far off (10 to 50 % slower), and perhaps a step or a drift.
"""

import argparse
import math
import time

import numpy as np
from msgspec.structs import replace

from nasvit_edge.benchmark.history import Point, steps

LEAST, MOST = 30, 200  # runs of a series
NEAR = 2  # runs that a step may be off


WHERE = Point(
    utc="2026-01-01",
    git_sha=None,
    uuid="",
    device="",
    runtime="",
    runtime_version="",
    threads=1,
    precision="",
    artifact="",
    metric="latency_p50",
    value=0.0,
    low=None,
    high=None,
    sha256="",
)


def simulated(rng, count, *, step=0.0, place=0, noise=0.02, outliers=0.03, drift=0.0, likeness=0.0):
    """Values in ms; `likeness` is the correlation of neighbours, `drift` the log change over all runs."""
    errors = rng.normal(size=count)
    for i in range(1, count):
        errors[i] = likeness * errors[i - 1] + math.sqrt(1 - likeness**2) * errors[i]
    off = (rng.random(count) < outliers) * rng.uniform(np.log(1.1), np.log(1.5), count)
    logs = noise * errors + off + drift * np.arange(count) / count
    logs[place:] += math.log1p(step)
    return 10 * np.exp(logs)


def ours(values):
    """The steps of `nasvit-edge report history`."""
    return steps([replace(WHERE, value=float(value)) for value in values])


def pelt(model, clipped):
    """Of ruptures, with the same scale and penalty (of its l1 half); `clipped`: to two deviations of a running median."""
    import ruptures

    def found(values):
        logs = np.log(values)
        logs = logs / max(np.median(np.abs(np.diff(logs))) / 0.6745 / math.sqrt(2), 1e-3)
        if clipped:
            around = [np.median(logs[max(0, i - 3) : i + 4]) for i in range(len(logs))]
            logs = np.clip(logs, np.array(around) - 2, np.array(around) + 2)
        penalty = (4 + 2.5 * math.log(len(logs))) * (0.5 if model == "l1" else 1)
        search = ruptures.Pelt(model=model, min_size=3, jump=1).fit(logs.reshape(-1, 1))
        return search.predict(penalty)[:-1]

    return found


def false_alarms(find, rng, number, least=LEAST, most=MOST, **truth):
    """Share of series without a step in which one is found, and how many a series."""
    counts = [len(find(simulated(rng, int(rng.integers(least, most + 1)), **truth))) for _ in range(number)]
    return float(np.mean(np.array(counts) > 0)), float(np.mean(counts))


def hits(find, rng, number, step, *, newest=None, **truth):
    """Share of series in which the one step is found, and share with others beside it.

    The step is anywhere in the middle eight tenths, or `newest` runs before the end.
    """
    near, others = 0, 0
    for _ in range(number):
        count = int(rng.integers(LEAST, MOST + 1))
        place = count - newest if newest else int(rng.integers(count // 10, count - count // 10))
        at = find(simulated(rng, count, step=step, place=place, **truth))
        near += any(abs(i - place) <= NEAR for i in at)
        others += any(abs(i - place) > NEAR for i in at)
    return near / number, others / number


def told(name, find, number, seed):
    """Print all figures of a way to find steps."""
    rng, begun = np.random.default_rng(seed), time.perf_counter()
    print(f"{name}, {number} series a line, seed {seed}")
    for what, truth in (
        ("no step", {}),
        ("no step, no outliers", {"outliers": 0.0}),
        ("no step, 10 % outliers", {"outliers": 0.1}),
        ("no step, 6 to 15 runs", {"least": 6, "most": 15}),
        ("no step, neighbours alike (0.3)", {"likeness": 0.3}),
        ("no step, neighbours alike (0.5)", {"likeness": 0.5}),
        ("drift of 5 %", {"drift": math.log(1.05)}),
        ("drift of 10 %", {"drift": math.log(1.10)}),
        ("drift of 30 %", {"drift": math.log(1.30)}),
    ):
        share, mean = false_alarms(find, rng, number, **truth)
        print(f"  {what}: found in {share:.1%}, {mean:.2f} a series", flush=True)
    for step in (0.10, 0.06, -0.06, 0.04, 0.03):
        share, others = hits(find, rng, number, step)
        print(
            f"  step of {step:+.0%}: within {NEAR} runs in {share:.1%}, others beside it in {others:.1%}",
            flush=True,
        )
    for newest in (3, 5, 8):
        share, _ = hits(find, rng, number, 0.06, newest=newest)
        print(f"  step of +6%, {newest} runs old: in {share:.1%}", flush=True)
    print(f"  {time.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--series", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ruptures", action="store_true", help="also PELT of the library ruptures")
    options = parser.parse_args()
    told("nasvit-edge", ours, options.series, options.seed)
    if options.ruptures:
        for name, way in (
            ("ruptures l2, outliers clipped", pelt("l2", True)),
            ("ruptures l2", pelt("l2", False)),
            ("ruptures l1", pelt("l1", False)),
        ):
            told(name, way, options.series, options.seed)
