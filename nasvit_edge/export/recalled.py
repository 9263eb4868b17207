"""Does what is exported still have the accuracy that the search spoke of?"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from nasvit_edge import data_sets
from nasvit_edge.data_sets.scenes import SceneSet
from nasvit_edge.errors import DataError
from nasvit_edge.export.sidecar import Searched
from nasvit_edge.hints import command
from nasvit_edge.listening import Listener

if TYPE_CHECKING:
    from nasvit_edge.model.subnet import Subnet

IMAGES = 500  # enough to see 6 points, and less than a minute of a large subnet
_ERRORS = 3.0  # standard errors: by chance one export of a thousand


def compare(
    subnet: Subnet,
    data: str,
    search: Searched | None,
    listener: Listener,
    *,
    weights: str,
    in_order: bool = False,
) -> float | None:
    """Measure a calibrated subnet on validation images of `data` and say where it is far below the search's word.

    Args:
        search: what the result file says; None: there was none.
        weights: where the subnet's are from.
        in_order: class folders whose names do not say which label they are take the labels in order.

    Returns:
        The share of images that it gets right; None where nothing was measured.
    """
    if search is None or subnet.space.is_dense or subnet.source.get("kind") == "random":
        return None
    try:
        images = data_sets.load_images(data, "validation", subnet.space, in_order=in_order)
    except DataError:  # calibration needs no labels; these have none, or others
        return None
    assert not isinstance(images, SceneSet)
    look = command("evaluate", supernet=weights, space=subnet.space.given, data=data, subnets="min,max")
    return _judged(subnet, images, search, look, listener)


def _judged(
    subnet: Subnet, images: data_sets.Images, search: Searched, look: str, listener: Listener
) -> float:
    from nasvit_edge.model.accuracy import accuracy

    part = images.take(images.name, slice(None, None, -(-len(images) // IMAGES)))
    top1, searched = accuracy(subnet, part), search.accuracy
    error = math.hypot(search.accuracy_uncertainty, math.sqrt(searched * (1 - searched) / len(part)))
    if searched - top1 > _ERRORS * error:
        listener.note(
            f"WARNING: top-1 is {top1:.1%} on {len(part)} of {images.name}, the search had {searched:.1%} ({search.accuracy_source}): "
            f"the images to calibrate on or their preparation are not those of training; look at --calibrate, and at {look}"
        )
    return top1
