"""How well 5 % of a published phone table tells the other 95 %.

    python benchmarks/estimate_phone_table.py nn_meter_pixel1.json

Per kind of key 5 % (at least 4) drawn at random, five seeds; mean relative error over the rest.
"""

import sys
from pathlib import Path

import numpy as np

from nasvit_edge.latency import nn_meter
from nasvit_edge.latency.estimate import Estimator

SHARE, LEAST, SEEDS = 0.05, 4, 5


def kinds(path: Path):
    """Kind -> (features, latencies) of the keys of this family."""
    groups = {}
    for key, ms in nn_meter.read(path).items():
        features = nn_meter.key_features(key)
        if features is not None:
            entries, latencies = groups.setdefault(features.kind, ([], []))
            entries.append(features)
            latencies.append(ms)
    return groups


def errors(entries, ms, rng):
    """Relative errors of the entries that were not drawn."""
    order = rng.permutation(len(entries))
    count = max(LEAST, round(SHARE * len(entries)))
    drawn, rest = order[:count], order[count:]
    estimator = Estimator([entries[i] for i in drawn], [ms[i] for i in drawn])
    return np.abs(estimator.predict([entries[i] for i in rest]) / np.array(ms)[rest] - 1)


if __name__ == "__main__":
    table = kinds(Path(sys.argv[1]))
    by_kind, overall = {kind: [] for kind in table}, []
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        kind_errors = {kind: errors(entries, ms, rng) for kind, (entries, ms) in table.items()}
        overall.append(np.concatenate(list(kind_errors.values())).mean())
        for kind, values in kind_errors.items():
            by_kind[kind].append(values.mean())
    for kind, values in by_kind.items():
        print(
            f"{kind:14} {len(table[kind][0]):5} keys  {np.mean(values):6.2%}  (seeds {np.min(values):.2%} to {np.max(values):.2%})"
        )
    print(
        f"{'all':14} {sum(len(e) for e, _ in table.values()):5} keys  {np.mean(overall):6.2%}  (seeds {np.min(overall):.2%} to {np.max(overall):.2%})"
    )
