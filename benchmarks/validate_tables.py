"""How good predictions from latency tables are on this machine.

    python benchmarks/validate_tables.py latency_tables/host-onnxruntime-1t-fp32-nano.json [TABLE ...] [--seed 7]

Per table 40 whole subnets, half uniform over genes and half over predicted latency, smallest and largest among them, each
in two fresh processes minutes apart. Profile first: nasvit-edge profile --space nano. Reports are not stored.
"""

import argparse

from nasvit_edge.latency import load_table
from nasvit_edge.profile.validate import validate

SUBNETS = 40


def judged(validation):
    """Each aim with the figure beside it."""
    r = validation.repeat_mape
    wide = max(0.05, 2 * r)
    errors = [abs(row.predicted_ms / (sum(row.measured_ms) / 2) - 1) for row in validation.subnets]
    inside = sum(error <= wide for error in errors) / len(errors)
    return [
        (
            f"MAPE {validation.mape:.2%} (aim {max(0.03, r + 0.015):.2%})",
            validation.mape <= max(0.03, r + 0.015),
        ),
        (f"largest {validation.largest:.2%} (aim 10%)", validation.largest <= 0.10),
        (f"{inside:.0%} within {wide:.1%} (aim 90%)", inside >= 0.9),
        (f"tau {validation.tau:.3f} (aim 0.97)", validation.tau >= 0.97),
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("tables", nargs="+")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    for path in options.tables:
        validation = validate(load_table(path), SUBNETS, options.seed)
        figures = "  ".join(f"{'ok  ' if well else 'MISS'} {text}" for text, well in judged(validation))
        print(
            f"{path}: repeat noise {validation.repeat_mape:.2%}  {figures}  in interval {validation.inside_interval:.0%}",
            flush=True,
        )
