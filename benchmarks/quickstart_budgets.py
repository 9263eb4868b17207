"""How much of its budget quickstart's subnet takes, against the exact optimum of the same table and predictor.

    python benchmarks/quickstart_budgets.py [--table FILE] [--budgets 6]

Budgets are log-spaced between the fastest subnet and the largest.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

from nasvit_edge.flows.quickstart import SPACE, choose
from nasvit_edge.latency import load_table
from nasvit_edge.listening import SILENT
from nasvit_edge.searching.accuracy import load_accuracy
from nasvit_edge.searching.search import fastest, search

SHIPPED = Path(__file__).parent.parent / "latency_tables" / "intel-xeon-6-167-onnxruntime-1t-fp32-nano.json"
LEAST = 0.95  # of the exact optimum's latency


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", type=Path, default=SHIPPED)
    parser.add_argument("--budgets", type=int, default=6)
    options = parser.parse_args()
    table = load_table(options.table)
    space, predictor = table.space, load_accuracy(SPACE)
    ends = [table.predict(config).ms for config in (fastest(space, table), space.largest())]
    used = 0
    for budget_ms in np.geomspace(1.1 * ends[0], 0.9 * ends[1], options.budgets).tolist():
        with tempfile.TemporaryDirectory() as folder:
            result, choice = choose(table, budget_ms, 0, Path(folder), SILENT)
        best = search(space, table, predictor, budget_ms, method="exact").best
        share = result.best.latency_ms / best.latency_ms
        used += share >= LEAST or choice.replaced
        print(
            f"budget {budget_ms:.4f} ms: quickstart {result.best.latency_ms:.4f} ms, {result.best.accuracy:.2%}; exact {best.latency_ms:.4f} ms, "
            f"{best.accuracy:.2%}; {share:.1%} of it; {choice.line()}",
            flush=True,
        )
    print(f"{used} of {options.budgets} within {1 - LEAST:.0%} of the exact optimum, or with a reason")


if __name__ == "__main__":
    main()
