"""The hashes of ops' graphs as today's code makes them, kept between runs."""

from __future__ import annotations

import contextlib
import importlib.metadata
import re
from collections.abc import Iterator, Sequence
from typing import Any

from nasvit_edge import cache, files
from nasvit_edge.code import conversion_digest
from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.ops import Op
from nasvit_edge.profile.graphs import former_hashes, graph_hash, layout_of, named_block
from nasvit_edge.profile.models import op_module

_HASH = "[0-9a-f]{24}"


class Graphs:
    """The hashes of ops' graphs as the code makes them now, kept in the user's cache: building an op takes a while."""

    def __init__(self, runtime: str, precision: str) -> None:
        self.runtime, self.precision, self.new = runtime, precision, False
        layout = layout_of(runtime, precision).replace(" ", "-")
        kind = "fp32" if precision == "fp32" else layout or "named"
        name = f"{conversion_digest()}-{runtime}-{kind}-torch-{importlib.metadata.version('torch')}.json"
        self.path = cache.root() / "graphs" / name
        try:
            graphs = files.read_json(self.path, "kept hashes", 2)["graphs"]
        except (NasvitEdgeError, KeyError):
            graphs = {}
        self.known = dict(_lists(graphs))

    def of(self, op: Op) -> Sequence[str]:
        """The hash of an op's graph, and those that tables have for it that were made before."""
        key = op.key()
        if key not in self.known:
            self.known[key] = hashes(op, self.runtime, self.precision)
            self.new = True
        return self.known[key]

    def keep(self) -> None:
        """Write what is new; a cache that cannot be written to is no error."""
        if self.new:
            with contextlib.suppress(NasvitEdgeError, OSError):
                self.path.parent.mkdir(parents=True, exist_ok=True)
                files.write_json(self.path, {"schema": 2, "graphs": self.known})


def hashes(op: Op, runtime: str, precision: str) -> list[str]:
    """`graph_hash` and `former_hashes` of an op."""
    module, shape = op_module(op, runtime), (1, *op.in_shape())
    layout = layout_of(runtime, precision)
    if layout:  # what was measured before was written otherwise
        return [graph_hash(module, shape, layout)]
    named = named_block(module, op, precision)
    return [graph_hash(module, shape), *former_hashes(named, shape, runtime)]


def _lists(graphs: Any) -> Iterator[tuple[str, Sequence[str]]]:
    for key, listed in graphs.items() if isinstance(graphs, dict) else ():
        if isinstance(listed, list) and listed and all(re.fullmatch(_HASH, str(one)) for one in listed):
            yield key, listed
