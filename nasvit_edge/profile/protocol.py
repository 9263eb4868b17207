"""How much is measured: named protocols, kept in every table."""

from __future__ import annotations

from dataclasses import dataclass

from nasvit_edge.errors import NasvitEdgeError


@dataclass(frozen=True, slots=True)
class Protocol:
    """`visits` rounds over all models in a new random order, each with at least `runs` samples and `seconds`.

    `subnets` whole subnets are measured beside the ops, for the composition.
    """

    name: str
    visits: int
    runs: int
    seconds: float
    subnets: int


PROTOCOLS = {
    "quick": Protocol("quick", visits=1, runs=10, seconds=0.05, subnets=12),
    "default": Protocol("default", visits=3, runs=10, seconds=0.05, subnets=24),
    "thorough": Protocol("thorough", visits=5, runs=10, seconds=0.2, subnets=32),
}


def load_protocol(name: str) -> Protocol:
    """A protocol by name."""
    if name not in PROTOCOLS:
        raise NasvitEdgeError(f"unknown protocol {name!r}; there are {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
