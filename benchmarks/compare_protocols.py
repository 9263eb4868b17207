"""How far ops measured by the protocol `default` are from the same ops measured by `thorough`, on this machine.

    python benchmarks/compare_protocols.py latency_tables/host-onnxruntime-1t-fp32-nasvit.json --ops 60

A stratified part of the table's ops, in one run: default, thorough, default. The two runs of default beside each other
say how much the machine itself changed meanwhile; the table's own entries, measured earlier, hold its drift as well.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

from nasvit_edge.device import load_device
from nasvit_edge.latency import load_table
from nasvit_edge.listening import SILENT
from nasvit_edge.ops import all_ops
from nasvit_edge.profile.canary import canaries
from nasvit_edge.profile.journal import Journal
from nasvit_edge.profile.models import Item, Models
from nasvit_edge.profile.protocol import load_protocol
from nasvit_edge.profile.sampling import stratified
from nasvit_edge.profile.session import Session
from nasvit_edge.profile.summary import summaries
from nasvit_edge.transport.local import fastest_cores, local_runner


def measured(table, items, name):
    """Medians in ms by a protocol, in the order of `items`."""
    file, protocol = table.file, load_protocol(name)
    with tempfile.TemporaryDirectory() as folder, local_runner(load_device("host").runner) as runner:
        session = Session(
            protocol=protocol,
            runtime=file.runtime,
            threads=file.threads,
            cores=fastest_cores(file.threads),
            seed=0,
            models=Models(table.space, file.runtime, Path(folder), 0, file.precision),
            journal=Journal(Path(folder, "journal.jsonl"), {}),
            runner=runner,
            canaries=canaries(table.space),
            listener=SILENT,
        )
        session.measure(items)
        by_name = summaries(session.journal.entries, protocol)
    return np.array([by_name[item.id].median_ms for item in items])


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("tables", nargs="+")
    parser.add_argument("--ops", type=int, default=60)
    options = parser.parse_args()
    for path in options.tables:
        table = load_table(path)
        chosen = stratified(all_ops(table.space), options.ops)
        items = [Item(op.key(), op=op) for op in chosen]
        first, best, second = (measured(table, items, name) for name in ("default", "thorough", "default"))
        kept = np.array([table.ops_ms[item.id] for item in items])
        print(f"{path}: {len(items)} ops")
        for what, values, others in (
            ("default before / thorough", first, best),
            ("default after / thorough", second, best),
            ("default before / after", first, second),
            ("table / thorough", kept, best),
        ):
            ratios = values / others
            low, middle, high = np.quantile(ratios, [0.1, 0.5, 0.9])
            difference = np.median(np.abs(ratios - 1))
            print(
                f"  {what}: median difference {difference:.2%}, ratio {middle:.3f} ({low:.3f} to {high:.3f})",
                flush=True,
            )
