"""Whether winners of `search --confirm` keep to their budgets when measured again, later, in fresh processes.

    python benchmarks/confirm_budgets.py [--table FILE] [--budgets 6] [--by p90]

Budgets log-spaced over the latencies of the space. All winners are then measured again, interleaved with a canary
(the smallest subnet), which is also timed around each confirmation: it says how much the machine itself changed.
"""

import argparse
import statistics

import numpy as np

from nasvit_edge.flows import confirm
from nasvit_edge.flows.prepared import prepare
from nasvit_edge.latency import load_table
from nasvit_edge.listening import SILENT, Listener
from nasvit_edge.profile.subnets import measure_subnets
from nasvit_edge.requests.options import TableChoice
from nasvit_edge.requests.search import Request
from nasvit_edge.searching.search import fastest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", default="host")
    parser.add_argument("--space", default="nasvit")
    parser.add_argument("--budgets", type=int, default=6)
    parser.add_argument("--by", default="p90", choices=("p90", "median"))
    parser.add_argument("--confirm", type=int, default=5)
    parser.add_argument("--passes", type=int, default=5)
    options = parser.parse_args()
    table = load_table(options.table, space=options.space)
    space = table.space
    ends = [table.predict(c).ms for c in (fastest(space, table), space.largest())]
    canary, winners = space.smallest(), []
    for budget in np.geomspace(1.2 * ends[0], 0.8 * ends[1], options.budgets).tolist():
        request = Request(
            space=options.space,
            latency=[f"{budget!r}ms"],
            table=TableChoice(table=table.path),
            confirm=options.confirm,
            confirm_by=options.by,
        )
        prepared = prepare(request, SILENT)
        before = timed(table, canary)
        result = confirm.search_and_confirm(
            prepared, listener=Listener(note=lambda text: print(f"  {text}", flush=True))
        )
        best = result.best
        winners.append((budget, best, statistics.mean([before, timed(table, canary)])))
        print(
            f"budget {budget:.2f} ms: {best.accuracy:.2%}, predicted {best.latency_ms:.2f} ms, confirmed median {best.median_ms:.2f}, p90 {best.p90_ms:.2f}",
            flush=True,
        )
    configs = [best.config for _, best, _ in winners]
    again = measure_subnets(table, [*configs, canary], 1, passes=options.passes)
    now = statistics.median(visit.median_ms for visit in again[canary])
    kept = 0
    print("measured again, later: median of passes")
    for (budget, best, then), config in zip(winners, configs, strict=True):
        median, p90 = (
            statistics.median(getattr(v, f"{k}_ms") for v in again[config]) for k in ("median", "p90")
        )
        kept += median <= 1.03 * budget
        print(
            f"budget {budget:7.2f} ms: median {median:7.2f} ({median / budget - 1:+.1%} of the budget), p90 {p90:7.2f} "
            f"(reported {best.p90_ms:.2f}); canary {now / then - 1:+.1%} since"
        )
    print(f"{kept} of {len(winners)} medians within the budget + 3 %")


def timed(table, canary):
    return statistics.median(visit.median_ms for visit in measure_subnets(table, [canary], 0)[canary])


if __name__ == "__main__":
    main()
