"""What the canary before predictions buys: predictions against measurements with and without it, machine as it is and loaded.

    python benchmarks/todays_speed.py latency_tables/host-onnxruntime-1t-fp32-nasvit.json [--subnets 12] [--rounds 3]

A round: the canary, then whole subnets that the table's composition was not fitted to; then the same beside neighbours, each of which
streams through memory on any core. With: every prediction times the canary's factor. By the rule: only where the factor is beyond the
noise, which is what `search` and `predict` show.
"""

import argparse
import contextlib
import math
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from nasvit_edge.device import load_device
from nasvit_edge.latency import load_table
from nasvit_edge.listening import SILENT
from nasvit_edge.profile.conversion import convert_all
from nasvit_edge.profile.models import Item, Models, mixed, subnet_id
from nasvit_edge.profile.protocol import PROTOCOLS
from nasvit_edge.profile.speed import todays_speed
from nasvit_edge.transport.local import local_runner

NEIGHBOUR = "import numpy as np\na, b = np.zeros((2, 16_000_000))\nwhile True:\n    np.copyto(a, b)\n"
SETTLED_S = 1.0


@contextlib.contextmanager
def neighbours(count):
    running = [subprocess.Popen([sys.executable, "-c", NEIGHBOUR]) for _ in range(count)]
    try:
        time.sleep(SETTLED_S)
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def measured_ms(runner, table, items, models):
    protocol, cores = PROTOCOLS["default"], runner.cores(table.file.threads)
    for item in items:
        job = protocol.job(
            id=item.id,
            model=models[item.id][0],
            runtime=table.file.runtime,
            threads=table.file.threads,
            cores=cores,
            seed=0,
        )
        yield statistics.median(runner.measure(job).samples_us) / 1e3


def errors(table, items, times_ms, factor):
    pairs = zip(items, times_ms, strict=True)
    return [factor * table.predict(item.config).ms / ms - 1 for item, ms in pairs]


def one(table, items, models, runner, what):
    busy = runner.about().busy_cores or 0.0
    speed = todays_speed(table, SILENT, runner)
    times_ms = list(measured_ms(runner, table, items, models))
    rule = speed.factor if speed.differs else 1.0
    rows = [errors(table, items, times_ms, factor) for factor in (1.0, speed.factor, rule)]
    means = [statistics.fmean(map(abs, row)) for row in rows]
    truly = math.exp(-statistics.fmean(math.log1p(error) for error in rows[0]))
    print(
        f"{what:8} other work {busy:.1f} cores, factor {speed.factor:.3f} (noise {speed.noise:.1%}), measured over predicted "
        f"{truly:.3f}; mean error without {means[0]:.1%}, with {means[1]:.1%}, by the rule {means[2]:.1%}",
        flush=True,
    )
    return means


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("--subnets", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--neighbours", type=int, default=2)
    parser.add_argument("--seed", type=int, default=99)
    options = parser.parse_args()
    table, rng = load_table(options.table), random.Random(options.seed)
    drawn = dict.fromkeys(mixed(table.space, rng) for _ in range(options.subnets))
    items = [Item(subnet_id(config), config=config) for config in drawn]
    means = {"as it is": [], "loaded": []}
    with tempfile.TemporaryDirectory() as folder, local_runner(load_device("host").runner) as runner:
        maker = Models(table.space, table.file.runtime, Path(folder), 0, table.file.precision)
        models = convert_all(items, maker, SILENT)
        for _ in range(options.rounds):
            for what, count in (("as it is", 0), ("loaded", options.neighbours)):
                with neighbours(count):
                    means[what].append(one(table, items, models, runner, what))
    for what, rows in means.items():
        without, with_it, rule = (statistics.fmean(column) for column in zip(*rows, strict=True))
        print(f"{what}: mean error without {without:.1%}, with {with_it:.1%}, by the rule {rule:.1%}")


if __name__ == "__main__":
    main()
