"""Fit the shipped accuracy predictor of the official ImageNet supernet.

    python benchmarks/fit_imagenet_accuracy.py FOLDER [--write]

FOLDER holds `stage_switches.json` (780 measured single-stage changes: resolution x stage x choice,
everything else smallest) and `published_subnets.json` (whole subnets). Data of the MathNAS paper
(NeurIPS 2023, arXiv 2311.04943) and of the README of facebookresearch/NASViT; only fitted
coefficients go into the package.

Fitted to single-stage changes: per resolution a base, per stage and gene a rising effect (increments by
non-negative least squares), drawn towards the mean over resolutions as far as cross-validation likes.
Fitted to whole subnets: one number, the saturation of the link, kept only if leaving each whole subnet
out says that it helps.
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


def cross_validated(a: np.ndarray, b: np.ndarray, strength: float) -> float:
    """RMSE on held-out single-stage records (5 folds), in points."""
    order, errors = np.random.default_rng(0).permutation(len(b)), []
    for fold in range(5):
        held = order[fold::5]
        kept = np.setdiff1d(order, held)
        errors.append(a[held] @ solve(a[kept], b[kept], strength) - b[held])
    return float(np.sqrt(np.mean(np.concatenate(errors) ** 2)))


def saturation(totals: np.ndarray, measured: np.ndarray, lowest: float) -> float:
    """The least-squares link parameter, per point, not below 0."""
    gains = np.maximum(0, totals - lowest) ** 2
    return max(0.0, float(gains @ (totals - measured) / max(gains @ gains, 1e-12)))


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


def fit(folder: Path) -> tuple[dict, list[list]]:
    """The content of the predictor's file, and the leave-one-out table."""
    records = json.loads((folder / "stage_switches.json").read_text())
    published = json.loads((folder / "published_subnets.json").read_text())
    a = np.stack([row(record_config(r)) for r in records])
    b = np.array([r["top1"] for r in records])
    scores = {s: cross_validated(a, b, s) for s in LAMBDAS}
    strength = min(scores, key=lambda s: scores[s])
    solved = solve(a, b, strength)
    keys = ("resolution", "width", "depth", "kernel_size", "expand_ratio")
    configs = [SPACE.config(**{k: p[k] for k in keys}) for p in published]
    totals = np.array([row(c) @ solved for c in configs])
    measured = np.array([p["top1"] for p in published])
    lowest = min(solved[COLUMNS["base", r]] for r in SPACE.resolutions)

    def linked(total: float, parameter: float) -> float:
        return float(total - parameter * max(0, total - lowest) ** 2)

    left_out = []
    for i in range(len(published)):
        kept = np.arange(len(published)) != i
        left_out.append(linked(totals[i], saturation(totals[kept], measured[kept], lowest)))
    link_rmse = float(np.sqrt(np.mean((np.array(left_out) - measured) ** 2)))
    plain_rmse = float(np.sqrt(np.mean((totals - measured) ** 2)))
    kept_link = link_rmse < plain_rmse
    parameter = saturation(totals, measured, lowest) if kept_link else 0.0
    rows = []
    for i, p in enumerate(published):
        shown = left_out[i] if kept_link else float(totals[i])
        rows.append([p["name"], p["top1"], shown, float(totals[i]), raw_addition(records, configs[i])])
    content = {
        "schema": 1,
        "space": "nasvit",
        "unit": "fractions",
        "source": "fitted to 780 measured single-stage changes of the published NASViT supernet on ImageNet-1k "
        "(data of MathNAS, NeurIPS 2023, arXiv 2311.04943) and whole subnets published there and in the README of "
        "facebookresearch/NASViT",
        "uncertainty": 0.004,
        "base": {str(r): rounded(solved[COLUMNS["base", r]]) for r in SPACE.resolutions},
        "effects": {str(r): effects(solved, r) for r in SPACE.resolutions},
        "saturation": round(parameter * 100, 6),
        "validation": {
            "single_stage_rmse_points": round(scores[strength], 4),
            "shrinkage": strength,
            "whole_subnets": "leave-one-out" if kept_link else "nothing fitted to whole subnets",
            "whole_rmse_points": {"link": round(link_rmse, 3), "addition": round(plain_rmse, 3)},
            "left_out": {
                r[0]: {"published": r[1], "predicted": round(r[2], 2), "addition": round(r[3], 2)}
                for r in rows
            },
        },
    }
    return content, rows


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--write", action="store_true", help="write the package data")
    options = parser.parse_args()
    content, rows = fit(options.folder)
    print(
        f"held-out single-stage RMSE {content['validation']['single_stage_rmse_points']} points",
        content["validation"],
    )
    print(f"{'subnet':10s} published  left out  addition (smoothed)  addition (raw)")
    for name, top1, left_out, addition, raw in rows:
        print(f"{name:10s} {top1:9.2f} {left_out:9.2f} {addition:20.2f} {raw:15.2f}")
    if options.write:
        files.write_json(files.data("accuracy", "nasvit.json"), content)
        load_accuracy("nasvit")


if __name__ == "__main__":
    main()
