"""Segmenters of `nasvit-dense` of at most 5 GMACs, found with the published ImageNet predictor as a proxy.

    python benchmarks/dense_five_gmacs.py [--macs 5G] [--table FILE] [--out FOLDER]

Nobody measured mean IoU of these: the proxy is top-1 of the same stages at 224. For each resolution the exact optimum of
the proxy within the MACs, with its sizes, and its latency by a table where there is one
(nasvit-edge profile --space nasvit-dense --sample 20% makes one).
"""

import argparse
from pathlib import Path

import nasvit_edge as ne
from nasvit_edge import files, records
from nasvit_edge.errors import TableError
from nasvit_edge.latency import LatencyTable
from nasvit_edge.latency.file import SCHEMA, OpEntry, TableFile
from nasvit_edge.ops import all_ops
from nasvit_edge.searching.accuracy import load_accuracy
from nasvit_edge.searching.limits import Limit
from nasvit_edge.searching.population import genes
from nasvit_edge.searching.proxy import proxy
from nasvit_edge.searching.search import Problem, solve
from nasvit_edge.units import count, show_bytes, show_count, show_ms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--macs", default="5G")
    parser.add_argument("--table", help="a latency table; by default the host's, where it has one")
    parser.add_argument("--out", type=Path, default=Path("five-gmacs"), help="for the proxy and the configs")
    options = parser.parse_args()
    space = ne.load_space("nasvit-dense")
    table = measured(space, options.table)
    out = files.writable_folder(options.out)
    records.write(out / "proxy.json", proxy(space, ne.load_accuracy("nasvit")))
    accuracy = load_accuracy(out / "proxy.json", space)
    print(f"{accuracy.quality}: {accuracy.source}")
    limit = Limit.of("macs", count(options.macs), "--macs")
    for resolution in space.resolutions:
        try:
            best = found(space, table or by_macs(space), accuracy, limit, resolution)
        except ne.NasvitEdgeError as error:
            print(f"{resolution}: {str(error).partition('; nearest')[0]}")
            continue
        files.write_json(out / f"{resolution}.json", best.config.to_dict())
        shown(space, table, best)
    if table is None:
        print("no latencies: nasvit-edge profile --space nasvit-dense --sample 20% measures a table")


def measured(space, name):
    """The table to predict latencies by; None where the host has none."""
    try:
        return ne.load_table(name or "host", space=space.name)
    except TableError:
        if name is not None:
            raise
        return None


def by_macs(space):
    """What a search needs where no latency is known: every op takes a ms a GMAC, so of equals the smaller one wins."""
    file = TableFile(
        schema=SCHEMA,
        device="none",
        runtime="onnxruntime",
        threads=1,
        precision="fp32",
        space=space.name,
        ops={op.key(): OpEntry(median_ms=max(op.macs(), 1) / 1e9) for op in all_ops(space)},
        call_ms=0.0,
    )
    return LatencyTable.of(Path("macs"), space, file)


def found(space, table, accuracy, limit, resolution):
    """The exact optimum of the proxy at a resolution."""
    some = genes(space, {"resolution": [resolution]})
    problem = Problem(space=space, tables=(table,), accuracy=accuracy, limits=(limit,), genes=some)
    return solve(problem, method="exact").best


def shown(space, table, best):
    height, width = space.input_size(best.config.resolution)
    sizes = f"{show_count(best.macs)} MACs, {show_count(best.parameters)} parameters, about {show_bytes(best.bytes)}"
    latency = "" if table is None else f", {show_ms(table.predict(best.config).ms)} by {table.path.name}"
    print(
        f"{height}x{width}: {best.accuracy:.2%}, {sizes}, activations {show_bytes(best.peak_bytes)}{latency}"
    )
    print(f"  {best.config.to_dict()}")


if __name__ == "__main__":
    main()
