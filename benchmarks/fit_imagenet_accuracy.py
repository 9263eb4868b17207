"""Fit the shipped accuracy predictor of the official ImageNet supernet.

    python benchmarks/fit_imagenet_accuracy.py FOLDER [--write]

FOLDER holds `stage_switches.json` (780 measured single-stage changes: resolution x stage x choice,
everything else smallest) and `published_subnets.json` (whole subnets). Data of the MathNAS paper
(NeurIPS 2023, arXiv 2311.04943) and of the README of facebookresearch/NASViT; only fitted
coefficients go into the package.

Fitted to single-stage changes: per resolution a base, per stage and gene a rising effect (increments by
non-negative least squares), drawn towards the mean over resolutions: as far as the cross-validated error stays
within one standard error of its best (the usual rule against choosing among noise).
Fitted to whole subnets: one number, the saturation of the link, drawn towards 0; kept only if leaving each
whole subnet out says that it helps and ranks them all right.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

from nasvit_edge import files
from nasvit_edge.searching.accuracy import load_accuracy
from nasvit_edge.space import get_gene, load_space

SPACE = load_space("nasvit")
GENES = SPACE.genes[1:]
LAMBDAS = (0.0, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
KEYS = ("resolution", "width", "depth", "kernel_size", "expand_ratio")
# The saturation's prior: whole subnets scatter by about 0.15 points, and a saturation of 0.01 per point (5 points
# of gain lose 0.25) is plausible. Without it, leaving the largest or T5 out fits the other's error exactly.
PRIOR = (0.15 / 0.01) ** 2
SOURCE = (
    "fitted to 780 measured single-stage changes of the published NASViT supernet on ImageNet-1k (data of MathNAS, "
    "NeurIPS 2023, arXiv 2311.04943); the link's one parameter to five whole subnets published there and in the "
    "README of facebookresearch/NASViT"
)


def columns() -> dict[tuple, int]:
    """The unknowns: base per resolution, increments per (resolution, gene, step), and their means."""
    names: list[tuple] = [("base", r) for r in SPACE.resolutions]
    for owner in (*SPACE.resolutions, "mean"):
        names += [(owner, gene.name, step) for gene in GENES for step in range(1, len(gene.choices))]
    return {name: i for i, name in enumerate(names)}


COLUMNS = columns()


def row(config) -> np.ndarray:
    """A config as a sum of unknowns."""
    values = np.zeros(len(COLUMNS))
    values[COLUMNS["base", config.resolution]] = 1
    for gene in GENES:
        for step in range(1, gene.choices.index(get_gene(config, gene)) + 1):
            values[COLUMNS[config.resolution, gene.name, step]] = 1
    return values


def record_config(record: dict):
    """The whole subnet of a single-stage record."""
    small = SPACE.smallest().to_dict() | {"resolution": record["resolution"]}
    names = ["first_conv", *(s.name for s in SPACE.stages), "last_conv"]
    position = names.index(record["stage"])
    small["width"][position] = record["width"]
    for kind in ("depth", "kernel_size", "expand_ratio"):
        if kind in record and 0 < position <= len(SPACE.stages):
            small[kind][position - 1] = record[kind]
    return SPACE.config(**small)


def solve(a: np.ndarray, b: np.ndarray, strength: float) -> np.ndarray:
    """Rising effects near `b`, drawn to the mean over resolutions by `strength`."""
    ties = np.zeros((sum(1 for n in COLUMNS if n[0] in SPACE.resolutions), len(COLUMNS)))
    owned = [n for n in COLUMNS if n[0] in SPACE.resolutions]
    for i, name in enumerate(owned):
        ties[i, COLUMNS[name]] = 1
        ties[i, COLUMNS["mean", *name[1:]]] = -1
    stacked = np.vstack([a, np.sqrt(strength) * ties])
    return nnls(stacked, np.concatenate([b, np.zeros(len(ties))]), maxiter=20000)[0]


def cross_validated(a: np.ndarray, b: np.ndarray, strength: float) -> tuple[float, float]:
    """Mean squared error on held-out single-stage records (5 folds) and its standard error, points^2."""
    order, errors = np.random.default_rng(0).permutation(len(b)), []
    for fold in range(5):
        held = order[fold::5]
        kept = np.setdiff1d(order, held)
        errors.append(a[held] @ solve(a[kept], b[kept], strength) - b[held])
    squared = np.concatenate(errors) ** 2
    return float(squared.mean()), float(squared.std() / np.sqrt(len(squared)))


def choose(scores: dict[float, tuple[float, float]]) -> float:
    """The strongest smoothing whose error is within one standard error of the best."""
    best, error = min(scores.values())
    return max(s for s, (mean, _) in scores.items() if mean <= best + error)


def saturation(totals: np.ndarray, measured: np.ndarray, lowest: float) -> float:
    """The link parameter, per point: least squares drawn towards 0 by `PRIOR`, not below 0."""
    gains = np.maximum(0, totals - lowest) ** 2
    return max(0.0, float(gains @ (totals - measured) / (gains @ gains + PRIOR)))


def linked(totals: np.ndarray, parameter: float, lowest: float) -> np.ndarray:
    """What `AccuracyPredictor.link` computes, in points."""
    return totals - parameter * np.maximum(0, totals - lowest) ** 2


def leave_one_out(totals: np.ndarray, measured: np.ndarray, lowest: float) -> np.ndarray:
    """Each whole subnet through a link that is fitted to the others."""
    kept = ~np.eye(len(totals), dtype=bool)
    parameters = [saturation(totals[k], measured[k], lowest) for k in kept]
    return np.array([linked(totals[i], p, lowest) for i, p in enumerate(parameters)])


def rmse(predicted: np.ndarray, measured: np.ndarray) -> float:
    """Root mean squared error."""
    return float(np.sqrt(np.mean((predicted - measured) ** 2)))


def ranked(predicted: np.ndarray, measured: np.ndarray) -> bool:
    """Whether the order is the measured one."""
    return bool((np.argsort(predicted) == np.argsort(measured)).all())


def raw_addition(records: list[dict], config) -> float:
    """Plain addition of the unsmoothed single-stage gains."""
    by_config = {}
    for r in records:
        by_config.setdefault(record_config(r), []).append(r["top1"])
    smallest = record_config({"resolution": config.resolution, "stage": "first_conv", "width": 16})
    base = float(np.mean(by_config[smallest]))
    total = base
    lists = config.to_dict()
    for position in range(len(SPACE.stages) + 2):
        values = smallest.to_dict()
        values["width"][position] = lists["width"][position]
        if 0 < position <= len(SPACE.stages):
            for kind in ("depth", "kernel_size", "expand_ratio"):
                values[kind][position - 1] = lists[kind][position - 1]
        total += float(np.mean(by_config[SPACE.config(**values)])) - base
    return total


def smoothed(records: list[dict]) -> tuple[np.ndarray, dict]:
    """The unknowns, and how they were chosen. Only single-stage records come in here."""
    a = np.stack([row(record_config(r)) for r in records])
    b = np.array([r["top1"] for r in records])
    scores = {s: cross_validated(a, b, s) for s in LAMBDAS}
    strength = choose(scores)
    solved = solve(a, b, strength)
    return solved, {
        "single_stage_records": len(records),
        "single_stage_rmse_points": round(scores[strength][0] ** 0.5, 4),
        "single_stage_rmse_by_shrinkage": {str(s): round(m**0.5, 4) for s, (m, _) in scores.items()},
        "single_stage_residual_points": round(rmse(a @ solved, b), 4),
        "shrinkage": strength,
    }


def fit(folder: Path) -> dict:
    """The content of the predictor's file."""
    records = json.loads((folder / "stage_switches.json").read_text())
    published = json.loads((folder / "published_subnets.json").read_text())
    solved, smoothing = smoothed(records)
    configs = [SPACE.config(**{k: p[k] for k in KEYS}) for p in published]
    totals = np.array([row(c) @ solved for c in configs])
    measured = np.array([p["top1"] for p in published])
    lowest = min(solved[COLUMNS["base", r]] for r in SPACE.resolutions)
    left_out = leave_one_out(totals, measured, lowest)
    link = rmse(left_out, measured) < rmse(totals, measured) and ranked(left_out, measured)
    parameter = saturation(totals, measured, lowest) if link else 0.0
    shown = {
        "published": measured,
        "predicted": left_out if link else totals,
        "fitted": linked(totals, parameter, lowest),
        "addition": totals,
        "raw_addition": np.array([raw_addition(records, c) for c in configs]),
    }
    whole = {
        "fitted_to_whole_subnets": "the link's saturation, judged by leaving each out" if link else "nothing",
        "saturation_prior": PRIOR,
        "whole_rmse_points": {
            "link": round(rmse(left_out, measured), 3),
            "addition": round(rmse(totals, measured), 3),
            "raw_addition": round(rmse(shown["raw_addition"], measured), 3),
        },
        "whole_worst_points": round(float(np.abs(shown["predicted"] - measured).max()), 3),
        "ranked_right": {name: ranked(values, measured) for name, values in shown.items()},
        "left_out": {
            p["name"]: {name: round(float(values[i]), 3) for name, values in shown.items()}
            for i, p in enumerate(published)
        },
    }
    return {
        "schema": 1,
        "space": "nasvit",
        "unit": "fractions",
        "source": SOURCE,
        "uncertainty": 0.004,  # above what leaving out shows: five subnets are few, and all of them are good ones
        "base": {str(r): rounded(solved[COLUMNS["base", r]]) for r in SPACE.resolutions},
        "effects": {str(r): effects(solved, r) for r in SPACE.resolutions},
        "saturation": round(parameter * 100, 6),
        "validation": smoothing | whole | {"unit": "top-1 in percent; errors in percentage points"},
    }


def effects(solved: np.ndarray, resolution: int) -> dict:
    """Gene -> choice -> cumulated gain."""
    table = {}
    for gene in GENES:
        steps = [solved[COLUMNS[resolution, gene.name, step]] for step in range(1, len(gene.choices))]
        gains = np.concatenate([[0.0], np.cumsum(steps)])
        table[gene.name] = {str(c): rounded(g) for c, g in zip(gene.choices, gains, strict=True)}
    return table


def rounded(points: float) -> float:
    """Points to a fraction with the digits that mean something."""
    return round(float(points) / 100, 7)


def report(validation: dict) -> None:
    """The leave-one-out table, plain addition beside it."""
    names = ("published", "predicted", "fitted", "addition", "raw_addition")
    titles = ("published", "left out", "fitted", "addition", "raw addition")
    print(f"{'subnet':10s}" + "".join(f"{title:>14s}" for title in titles))
    for subnet, values in sorted(validation["left_out"].items(), key=lambda item: item[1]["published"]):
        print(f"{subnet:10s}" + "".join(f"{values[name]:14.2f}" for name in names))
    for key, value in validation.items():
        if key != "left_out":
            print(f"{key}: {value}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--write", action="store_true", help="write the package data")
    options = parser.parse_args()
    content = fit(options.folder)
    report(content["validation"])
    if options.write:
        files.write_json(files.data("accuracy", "nasvit.json"), content)
        load_accuracy("nasvit")


if __name__ == "__main__":
    main()
