"""What `nasvit-edge train` would take, before it starts."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nasvit_edge import data_sets
from nasvit_edge.space import load_space

if TYPE_CHECKING:
    from nasvit_edge.train.run import Request


def dry_run(
    request: Request,
    on_progress: Callable[[int, int, str], None] = lambda done, total, detail: None,
    note: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """The estimate of what `nasvit-edge train` is asked for; `shown` has it as text, for people, and `masks` what is in them."""
    import torch

    from nasvit_edge.train import shrinking
    from nasvit_edge.train.estimate import estimate, shown
    from nasvit_edge.train.run import masks_checked, space_for

    settings = request.settings
    space = space_for(load_space(request.space), request.data, note)
    images, validation = data_sets.training_splits(request.data, space, note=note)
    masks = list(masks_checked(images, validation, space, on_progress))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    how = {"threads": settings.threads, "bf16": settings.bf16, "device": device}
    line = shrinking.told(images, space, request.recipe, how)
    if line:
        note(line)
    found = estimate(
        space,
        request.recipe,
        len(images),
        threads=settings.threads,
        bf16=settings.bf16,
        processes=int(os.environ.get("WORLD_SIZE", "1")),  # torchrun's
        keep=settings.keep,
        out=settings.out,
        device=device,
    )
    return found | {
        "space": space.name,
        "data": images.name,
        "recipe": request.recipe.name,
        "masks": masks,
        "shown": shown(found),
    }
