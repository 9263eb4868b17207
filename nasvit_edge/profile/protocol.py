"""How much is measured: named protocols, kept in every table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.transport.job import Job


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """`visits` rounds over all models, each in a new random order and with the model loaded anew.

    A visit takes at least `runs` samples and `seconds`, then goes on until the 95 % interval of the median is
    narrower than `precision` of it, or `most_seconds` are over. `subnets` whole subnets are measured beside
    the ops, for the composition. Canaries are timed again every `canary_seconds`; what was measured between
    two readings of which one is off by more than `drift` is measured again, at most `repeats` times.
    """

    name: str
    visits: int
    runs: int
    seconds: float
    most_seconds: float
    subnets: int
    precision: float = 0.02
    canary_seconds: float = 15.0
    drift: float = 0.05
    repeats: int = 2

    def job(
        self,
        *,
        id: str,
        model: str,
        runtime: str,
        threads: int,
        cores: Sequence[int],
        seed: int,
        sustained_s: float = 0.0,
    ) -> Job:
        """One visit of a model."""
        return Job(
            id=id,
            model=model,
            runtime=runtime,
            threads=threads,
            cores=tuple(cores),
            runs=self.runs,
            seconds=self.seconds,
            most_seconds=self.most_seconds,
            precision=self.precision,
            seed=seed,
            sustained_s=sustained_s,
        )


PROTOCOLS = {
    "quick": Protocol(name="quick", visits=1, runs=10, seconds=0.03, most_seconds=0.1, subnets=20, repeats=1),
    "default": Protocol(name="default", visits=3, runs=10, seconds=0.03, most_seconds=0.15, subnets=36),
    "thorough": Protocol(name="thorough", visits=5, runs=20, seconds=0.2, most_seconds=2.0, subnets=48),
}


def load_protocol(name: str) -> Protocol:
    """A protocol by name."""
    if name not in PROTOCOLS:
        raise NasvitEdgeError(f"unknown protocol {name!r}; there are {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
