"""How fast a table's machine is today, against the day it was measured."""

from __future__ import annotations

import math

from nasvit_edge.records import Amount, Positive, Record, Whole


class TodaysSpeed(Record, frozen=True, kw_only=True, omit_defaults=False):
    """What a few of a table's own models take today.

    Attributes:
        factor: today's times over the table's, the geometric mean.
        noise: what the table's machine changed by while it was measured, and what today's passes differ by, the larger; a fraction.
        models: how many were timed.
    """

    factor: Positive
    noise: Amount
    models: Whole

    @property
    def differs(self) -> bool:
        """Whether the factor is beyond the noise."""
        return abs(math.log(self.factor)) > math.log1p(self.noise)

    def line(self) -> str:
        """`today this machine takes 1.11 times what its table says (noise 3.1 %)`."""
        return (
            f"today this machine takes {self.factor:.3f} times what its table says (noise {self.noise:.1%})"
        )
