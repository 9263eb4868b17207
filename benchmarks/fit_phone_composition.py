"""How well `fit_composition` predicts whole networks from sums of their ops, on published phone GPU latencies.

    python benchmarks/fit_phone_composition.py FOLDER        # with gpu_ops.csv and gpu_e2e.csv (qed-usc/mobile-ml-benchmark)

Five folds from `default_rng(seed).permutation(n)[f::5]`; the error of seed 0, the mean over 20 seeds, and the coverage
of the 90 % intervals.
"""

import csv
import sys
from collections import Counter
from pathlib import Path

import numpy as np

import nasvit_edge as ne


def columns(folder: Path, device: str):
    """Sums in ms, counts and whole-network latencies in ms of a device."""
    column, sums, counts = f"{device}|gpu|float", Counter(), Counter()
    with (folder / "gpu_ops.csv").open() as stream:
        for row in csv.DictReader(stream):
            if row[column].strip():
                sums[row["model"]] += float(row[column]) / 1e3
                counts[row["model"]] += 1
    with (folder / "gpu_e2e.csv").open() as stream:
        whole = {row["model"]: float(row[f"{column}|mean"]) / 1e3 for row in csv.DictReader(stream)}
    return (np.array([source[name] for name in whole]) for source in (sums, counts, whole))


def folds(sums, counts, whole, seed):
    """Predictions of each fifth by the others: relative errors, and whether they are inside the interval."""
    errors, inside = np.zeros(len(whole)), np.zeros(len(whole), bool)
    order = np.random.default_rng(seed).permutation(len(whole))
    for fold in range(5):
        out = order[fold::5]
        kept = np.setdiff1d(order, out)
        predicted = ne.fit_composition(sums[kept], counts[kept], whole[kept]).predict(sums[out], counts[out])
        errors[out] = np.abs(predicted.ms / whole[out] - 1)
        inside[out] = (predicted.low_ms <= whole[out]) & (whole[out] <= predicted.high_ms)
    return errors.mean(), inside.mean()


if __name__ == "__main__":
    for device in ("pixel4", "s10", "mi8se"):
        sums, counts, whole = columns(Path(sys.argv[1]), device)
        results = np.array([folds(sums, counts, whole, seed) for seed in range(20)])
        print(
            f"{device:7} networks {len(whole)}  plain sums off by {np.abs(sums / whole - 1).mean():.1%}  "
            f"MAPE seed 0 {results[0, 0]:.2%}, mean {results[:, 0].mean():.2%}  "
            f"coverage seed 0 {results[0, 1]:.1%}, {results[:, 1].min():.1%} to {results[:, 1].max():.1%}"
        )
