"""Bring tables of an earlier version to what today's code says of the same graphs: python benchmarks/renew_tables.py [TABLE ...]

By default every shipped one. Nothing is measured, and no time is changed: an entry's hash becomes today's where today's code
makes that very graph (it is one of the hashes that tables had for it); other entries stay as they are and are told. A table also
gets the digest of its space's ops.
"""

import argparse
from pathlib import Path

from msgspec.structs import replace

from nasvit_edge import files
from nasvit_edge.latency import load_table
from nasvit_edge.ops import all_ops, ops_digest
from nasvit_edge.profile.kept_graphs import Graphs
from nasvit_edge.records import write


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("tables", nargs="*", type=Path)
    options = parser.parse_args()
    for path in options.tables or sorted(files.shipped("latency_tables").glob("*.json")):
        same, other = renewed(path)
        print(f"{path.name}: {same} graphs are as they were, {other} are others", flush=True)


def renewed(path: Path) -> tuple[int, int]:
    """Rewrite a table; how many of its ops have the graph that was measured, and how many another one."""
    table = load_table(path)
    today, entries = Graphs(table.file.runtime, table.file.precision), dict(table.file.ops)
    other = 0
    for op in all_ops(table.space):
        hashes, entry = today.of(op), entries.get(op.key())
        if entry is not None and entry.graph in hashes:
            entries[op.key()] = replace(entry, graph=hashes[0])
        else:
            other += 1
    today.keep()
    write(path, replace(table.file, ops=entries, ops_digest=ops_digest(table.space)))
    return len(entries) - other, other


if __name__ == "__main__":
    main()
