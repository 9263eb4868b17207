"""What files take, by what they consist of: python benchmarks/fit_file_sizes.py

For each runtime and precision, whole subnets of `nasvit` and `nano` are converted, and bytes a part fitted on some of
them (no part negative); the error is that on the others. The numbers go into `nasvit_edge/sizes.py`. Minutes.
"""

import argparse
import itertools
import random
import tempfile
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

import nasvit_edge as ne
from nasvit_edge import sizes
from nasvit_edge.export.formats import format_for
from nasvit_edge.ops import lower
from nasvit_edge.profile.models import Item, Models, mixed, subnet_id
from nasvit_edge.runtimes import RUNTIMES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--subnets", type=int, default=8, help="of each space")
    parser.add_argument("--runtimes", nargs="+", default=["onnxruntime", "litert", "coreml"])
    parser.add_argument("--precisions", nargs="+", default=["fp32", "fp16", "int8", "dynamic", "w8"])
    options = parser.parse_args()
    count = options.subnets
    for runtime, precision in itertools.product(options.runtimes, options.precisions):
        if precision in format_for(runtime).thresholds:
            rows, real = [], []
            for space in map(ne.load_space, ("nasvit", "nano")):
                rng = random.Random(0)
                configs = [space.smallest(), space.largest(), *(mixed(space, rng) for _ in range(count - 2))]
                with tempfile.TemporaryDirectory() as folder:
                    models = Models(space, runtime, Path(folder), 0, precision)
                    for config in configs:
                        path, _ = models.path(Item(subnet_id(config), config=config))
                        rows.append(np.sum([sizes.contents(op) for op in lower(space, config)], 0))
                        real.append(sum(f.stat().st_size for f in [path, *path.rglob("*")] if f.is_file()))
            report(RUNTIMES[runtime].form, precision, np.array(rows, float), np.array(real, float))


def report(form, precision, rows, real) -> None:
    fitted = np.arange(len(real)) % 2 == 0
    left = rows[~fitted] @ solved(rows[fitted], real[fitted]) / real[~fitted]
    parts = solved(rows, real)
    print(
        f'    ("{form}", "{precision}"): ({", ".join(f"{p:.4g}" for p in parts)}),  '
        f"# left out: {left.min():.3f} to {left.max():.3f} of the file",
        flush=True,
    )


def solved(rows, real):
    scaled = rows / real[:, None]
    largest = scaled.max(0)
    return nnls(scaled / largest, np.ones(len(real)))[0] / largest


if __name__ == "__main__":
    main()
