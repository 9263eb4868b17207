"""How near evolutionary searches come to the exact optimum, and whether budgets are kept.

    python benchmarks/search_quality.py [--table FILE]

Hypervolume over 5 seeds; the winner's accuracy at 10 and at 100 budgets, log-spaced over the exact front; no returned
subnet over 20 budgets x 3 seeds above its budget; the exact method against brute force on a part of the space.
"""

import argparse
import statistics

import numpy as np
from search_speed import TABLE, areas

import nasvit_edge as ne
from nasvit_edge.searching.evaluation import Evaluator
from nasvit_edge.searching.evolution import Effort, evolve
from nasvit_edge.searching.exact import exact_front
from nasvit_edge.searching.pareto import front
from nasvit_edge.searching.population import genes
from nasvit_edge.searching.search import Problem, plane, search


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", default=TABLE)
    parser.add_argument("--space", default="nasvit")
    options = parser.parse_args()
    space, table = ne.load_space(options.space), ne.load_table(options.table, space=options.space)
    accuracy = ne.load_accuracy(options.space)
    evaluator = Problem(space=space, tables=(table,), accuracy=accuracy).evaluator
    exact = evaluator(exact_front(evaluator))
    points = plane(exact)
    points = points[front(points)]
    print(
        f"{table.path.name}: exact front of {len(points)} subnets, {points[0, 0]:.3f} to {points[-1, 0]:.3f} ms"
    )
    area = areas(evaluator, exact)
    for effort in (Effort(), Effort(population=512, generations=200)):
        volumes = [area(evolve(evaluator, (), seed, effort).kept_values) for seed in range(5)]
        size = f"{effort.population} x {effort.generations}"
        print(f"hypervolume, {size}: median {statistics.median(volumes):.5%}, worst {min(volumes):.5%}")
    for count in (10, 100):
        print(f"{count} budgets: {gaps(space, table, accuracy, points, count)}")
    over, asked = 0, 0
    for budget in np.geomspace(points[0, 0] * 1.001, points[-1, 0], 20):
        for seed in range(3):
            result = search(space, table, accuracy, float(budget), seed)
            asked += 1 + len(result.front)
            over += sum(table.predict(c.config).ms > budget for c in (result.best, *result.front))
    print(f"20 budgets x 3 seeds: {over} of {asked} returned subnets are predicted above the budget")
    brute_force(space, table, accuracy)


def gaps(space, table, accuracy, points, count):
    """By how many points the exact winner is better, over budgets."""
    losses = []
    for budget in np.geomspace(points[0, 0], points[-1, 0], count + 2)[1:-1]:
        best = -points[np.searchsorted(points[:, 0], budget, "right") - 1, 1]
        losses.append(100 * (best - search(space, table, accuracy, float(budget)).best.accuracy))
    return f"winner within {max(losses):.4f} points of the exact optimum (mean {statistics.mean(losses):.5f})"


def brute_force(space, table, accuracy):
    free = [gene for gene in space.genes if len(gene.choices) > 1]
    chosen = {gene.name: (gene.choices[0], gene.choices[-1]) for gene in free[:18]}
    chosen |= {gene.name: gene.choices[:1] for gene in free[18:]}
    evaluator = Evaluator(genes(space, chosen), [table], accuracy)
    every = plane(evaluator(evaluator.genes.all_rows()))
    exact = plane(evaluator(exact_front(evaluator)))
    every, exact = every[front(every)], exact[front(exact)]
    same = every.shape == exact.shape and np.allclose(every, exact, rtol=1e-12, atol=0)
    print(
        f"brute force over {evaluator.genes.size():,} subnets: front of {len(every)}, {'the same' if same else 'ANOTHER'}"
    )


if __name__ == "__main__":
    main()
