"""How fast searching is, beside pymoo's NSGA-II on the same problem in the same run.

    python benchmarks/search_speed.py [--table FILE] [--rounds 5]

One thread. Needs pymoo (extra bench). pymoo gets the same vectorised evaluation; what differs is the algorithm.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np

import nasvit_edge as ne
from nasvit_edge.searching.evolution import Effort, evolve
from nasvit_edge.searching.exact import exact_front
from nasvit_edge.searching.pareto import front, hypervolume
from nasvit_edge.searching.search import Problem, plane

TABLE = "latency_tables/intel-xeon-6-167-onnxruntime-1t-fp32-nasvit.json"
CANDIDATES = 1_000_000
POPULATION, GENERATIONS = 512, 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", default=TABLE)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    space, table = ne.load_space("nasvit"), ne.load_table(options.table)
    evaluator = Problem(space=space, tables=(table,), accuracy=ne.load_accuracy("nasvit")).evaluator
    rows = evaluator.genes.random(np.random.default_rng(0), CANDIDATES)
    rates = [CANDIDATES / timed(lambda: evaluator(rows))[0] for _ in range(options.rounds)]
    said("evaluations a second (latency, accuracy, MACs, sizes)", rates, "{:,.0f}")
    took, exact = zip(*(timed(lambda: exact_front(evaluator)) for _ in range(options.rounds)), strict=True)
    said("exact front, s", took)
    best = evaluator(exact[0])
    effort, area = Effort(population=POPULATION, generations=GENERATIONS), areas(evaluator, best)
    ours, theirs = [], []
    for seed in range(options.rounds):  # interleaved
        ours.append((*timed(lambda s=seed: evolve(evaluator, (), s, effort).kept_values), seed))
        theirs.append((*timed(lambda s=seed: pymoo(evaluator, s)), seed))
    for name, runs in (("ours", ours), ("pymoo", theirs)):
        said(f"front of {POPULATION} x {GENERATIONS}, {name}, s", [r[0] for r in runs])
        said("  hypervolume, share of the exact front's", [area(r[1]) for r in runs], "{:.5%}")
    said("  times faster", [t[0] / o[0] for o, t in zip(ours, theirs, strict=True)], "{:.1f}")
    with tempfile.TemporaryDirectory() as folder:
        for name, latency, code in (
            ("shell to result", "20ms", 0),
            ("impossible budget, shell to answer", "0.01ms", 1),
        ):
            seconds = [
                timed(lambda a=latency, c=code: shell(options.table, a, c, folder))[0]
                for _ in range(options.rounds)
            ]
            said(f"{name} (--latency {latency}), s", seconds)


def timed(function):
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def said(what, values, form="{:.3f}"):
    low, middle, high = (form.format(v) for v in (min(values), statistics.median(values), max(values)))
    print(f"{what}: {middle} ({low} .. {high})", flush=True)


def areas(evaluator, exact):
    """values -> hypervolume as a share of the exact front's, axes scaled to [0, 1]."""
    corners = evaluator(evaluator.genes.extremes())
    reference = np.array([corners.latency_ms[1, 0], -corners.accuracy[0]])
    low = plane(exact).min(0)

    def area(values):
        return hypervolume((plane(values) - low) / (reference - low), np.ones(2))

    return lambda values: area(values) / area(exact)


def pymoo(evaluator, seed):
    """NSGA-II with the operators that pymoo documents for integers; all it ever saw on a front is kept, as ours."""
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.problem import Problem as Theirs
    from pymoo.operators.crossover.sbx import SBX
    from pymoo.operators.mutation.pm import PM
    from pymoo.operators.repair.rounding import RoundingRepair
    from pymoo.operators.sampling.rnd import IntegerRandomSampling
    from pymoo.optimize import minimize

    seen = []

    class Space(Theirs):
        def __init__(self):
            most = [len(choices) - 1 for choices in evaluator.genes.allowed]
            super().__init__(n_var=len(most), n_obj=2, xl=0, xu=np.array(most), vtype=int)

        def _evaluate(self, x, out, *_args, **_kwargs):
            values = evaluator(x.astype(np.int8))
            out["F"] = plane(values)
            seen.append(values[front(out["F"])])

    algorithm = NSGA2(
        pop_size=POPULATION,
        sampling=IntegerRandomSampling(),
        crossover=SBX(prob=1.0, eta=3.0, vtype=float, repair=RoundingRepair()),
        mutation=PM(prob=1.0, eta=3.0, vtype=float, repair=RoundingRepair()),
        eliminate_duplicates=True,
    )
    minimize(Space(), algorithm, ("n_gen", GENERATIONS), seed=seed, verbose=False)
    from nasvit_edge.searching.evaluation import Values

    return Values.joined(seen)


def shell(table, latency, code, folder):
    out = Path(folder) / "search.json"
    command = [sys.executable, "-m", "nasvit_edge.cli", "search", "--latency", latency, "--table", table]
    done = subprocess.run([*command, "--out", str(out)], capture_output=True, check=False)
    assert done.returncode == code, done.stderr


if __name__ == "__main__":
    main()
