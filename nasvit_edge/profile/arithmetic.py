"""How much of the models that a table is measured on is in 8 bits."""

from __future__ import annotations

from nasvit_edge.export import arithmetic
from nasvit_edge.export.formats import format_of
from nasvit_edge.profile.models import Item, Models, subnet_id


def shares(models: Models) -> dict[str, dict[str, float]] | None:
    """The shares of the smallest and the largest subnet as they were measured; None of a table that is not of 8 bits."""
    if models.precision not in arithmetic.PRECISIONS:
        return None
    space = models.space
    by_name = {}
    for name, config in (("smallest", space.smallest()), ("largest", space.largest())):
        path, _ = models.path(Item(subnet_id(config), config=config))
        counts = arithmetic.arithmetic(path, format_of(path.suffix).name, models.precision)
        assert counts is not None
        by_name[name] = counts.shares()
    return by_name
