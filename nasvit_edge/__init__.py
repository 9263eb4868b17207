"""nasvit-edge: the most accurate NASViT subnet for a latency budget measured on your device.

    import nasvit_edge as ne
    space = ne.load_space("nano")
    supernet = ne.load_supernet("nano", space)
    subnet = ne.materialise(supernet, space.smallest())

The names below are the public ones; each is imported when it is first used, so that a command that
needs no torch does not wait for it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nasvit_edge.errors import NasvitEdgeError
    from nasvit_edge.latency import Composition, LatencyTable, Prediction, fit_composition, load_table
    from nasvit_edge.model.checkpoint import load_supernet
    from nasvit_edge.model.subnet import Subnet, calibrate, fold, materialise, statistics
    from nasvit_edge.model.supernet import Supernet
    from nasvit_edge.ops import all_ops, lower, macs
    from nasvit_edge.searching.accuracy import load_accuracy
    from nasvit_edge.searching.search import SearchResult, search
    from nasvit_edge.space import SearchSpace, SubnetConfig, load_space

_HOMES = {
    "errors": ("NasvitEdgeError",),
    "latency": ("Composition", "LatencyTable", "Prediction", "fit_composition", "load_table"),
    "model.checkpoint": ("load_supernet",),
    "model.subnet": ("Subnet", "calibrate", "fold", "materialise", "statistics"),
    "model.supernet": ("Supernet",),
    "ops": ("all_ops", "lower", "macs"),
    "searching.accuracy": ("load_accuracy",),
    "searching.search": ("SearchResult", "search"),
    "space": ("SearchSpace", "SubnetConfig", "load_space"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Composition",
    "LatencyTable",
    "NasvitEdgeError",
    "Prediction",
    "SearchResult",
    "SearchSpace",
    "Subnet",
    "SubnetConfig",
    "Supernet",
    "all_ops",
    "calibrate",
    "fit_composition",
    "fold",
    "load_accuracy",
    "load_space",
    "load_supernet",
    "load_table",
    "lower",
    "macs",
    "materialise",
    "search",
    "statistics",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'nasvit_edge' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"nasvit_edge.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value
