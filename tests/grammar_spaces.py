"""Spaces over the grammar of blocks that nobody ships: each key alone, and any together."""

from __future__ import annotations

from pathlib import Path

from hypothesis import strategies as st

from nasvit_edge.space import SearchSpace, parse_space

ACTIVATIONS = ("silu", "hard_swish", "relu", "relu6", "gelu")
PLAIN = {
    "schema": 1,
    "name": "made",
    "resolutions": [8, 12],
    "classes": 3,
    "mean": [0.5, 0.5, 0.5],
    "std": [0.25, 0.25, 0.25],
    "stem": {"width": [8, 16], "kernel_size": 3, "stride": 1},
    "attention": {"window": 4},
    "head": {"width": [16, 24], "expand_ratio": 2},
}
MBCONV = {"name": "mb1", "kind": "mbconv", "width": [16, 24], "depth": [1, 2], "kernel_size": [3, 5]}
MBCONV |= {"expand_ratio": [2, 3], "se": True, "stride": 2}
HYBRID = {"name": "mb2", "kind": "hybrid", "width": [16, 24], "depth": [1, 2, 3], "kernel_size": [3]}
HYBRID |= {"expand_ratio": [2], "se": False, "stride": 1}

SPACE_KEYS = {
    "activation": ACTIVATIONS,
    "widths_rise": (True,),
    "filter": ("bilinear",),
    "squeeze": (
        {"of": "input", "divisor": 2},
        {"rounded": False, "gate": "sigmoid", "activation": "silu"},
        {"divisor": 3},
    ),
}
MBCONV_KEYS = {
    "width": (24, "same", [24]),
    "depth": (2, [3]),
    "kernel_size": (3, 5, [[3, 5], [3], [5]]),
    "expand_ratio": (1, 2, 2.5, [1], [1, 2], [[1, 2], [2], [3]]),
    "se": (False, [0, 1], [1]),
    "expands": (True,),
    "activation": ACTIVATIONS,
    "form": ("fused",),
    "shortcut": ("identity", "none"),
    "last_activation": (True,),
}
HYBRID_KEYS = {
    "counts_first": (False,),
    "activation": ACTIVATIONS,
    "shortcut": ("identity", "none"),
    "se": (True,),
}
ATTENTION_KEYS = {
    "head_width": (4,),
    "value_ratio": (1, [1, 2, 4]),
    "window": (8,),
    "mixing": ("none",),
    "norm": ("token",),
    "bias": (False,),
    "mlps": (1, 3, [1, 2]),
    "mlp_ratio": (2, [1, 2, 3]),
    "scaling": (False,),
}
HEADS = (
    {"kind": "pooled", "width": [16, 32]},
    {"width": [16], "expand_ratio": 3, "bias": True, "activation": "relu"},
    {"kind": "mlp", "width": [8], "activation": "relu6"},
)


def space_with(mbconv=None, hybrid=None, attention=None, head=None, common=None) -> SearchSpace:
    """The plain space with other values of some keys."""
    stages = [MBCONV | (mbconv or {}), HYBRID | (hybrid or {})]
    stages[1] |= {"attention": attention} if attention else {}
    table = PLAIN | (common or {}) | {"stage": stages} | ({"head": head} if head else {})
    return parse_space(table, Path("made.toml"))


def _each(keys):
    return [{key: value} for key, values in keys.items() for value in values]


ALONE = [
    *({"common": each} for each in _each(SPACE_KEYS)),
    *({"mbconv": each} for each in _each(MBCONV_KEYS)),
    *({"hybrid": each} for each in _each(HYBRID_KEYS)),
    *({"attention": each} for each in _each(ATTENTION_KEYS)),
    {"common": {"attention": {"window": 4, "mlp_ratio": [1, 2], "mixing": "none"}}},
    *({"head": each} for each in HEADS),
]


def some(keys) -> st.SearchStrategy:
    """Some of the keys, each with one of its values."""
    return st.fixed_dictionaries({}, optional={key: st.sampled_from(values) for key, values in keys.items()})


@st.composite
def spaces(draw) -> SearchSpace:
    """Any values of any keys together, where they do not contradict each other."""
    mbconv, hybrid = draw(some(MBCONV_KEYS)), draw(some(HYBRID_KEYS))
    if mbconv.get("form") == "fused":
        mbconv["expands"] = True
    common = draw(some(SPACE_KEYS))
    if common.get("widths_rise"):
        hybrid["width"] = [24, 32]
    head = draw(st.none() | st.sampled_from(HEADS))
    return space_with(mbconv, hybrid, draw(some(ATTENTION_KEYS)), head, common)
