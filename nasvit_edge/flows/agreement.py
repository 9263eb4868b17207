"""`report conflicts --at`: how far the gradients of a run's weights agree, over more and more images."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

from nasvit_edge import data_sets
from nasvit_edge.choosing.space import space_of
from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.listening import SILENT, Listener
from nasvit_edge.records import Record
from nasvit_edge.requests.report import ConflictsRequest as Request
from nasvit_edge.space import SearchSpace, load_space
from nasvit_edge.train.conflicts import ALL, Agreement
from nasvit_edge.train.recipe import Recipe, recipe_of_run

if TYPE_CHECKING:
    from nasvit_edge.model.supernet import Supernet

END = "end"
BATCHES = 64


class Agreed(Record, frozen=True, kw_only=True):
    """Of weights, the agreement over more and more batches.

    Attributes:
        at: the step of a checkpoint, or `end`.
    """

    run: str
    at: str
    space: str
    data: str
    recipe: str
    agreements: tuple[Agreement, ...]

    def verdict(self) -> str:
        """What the largest group of batches says, beside the single ones; two standard errors decide."""
        first, last = self.agreements[0], self.agreements[-1]
        cosine, error = last.cosines[ALL], last.error
        text = f"over {last.images:,} images the cosine is {cosine:+.2f}"
        text += "" if error is None else f" ± {error:.2f}"
        text += f" (single batches: {first.cosines[ALL]:+.2f})"
        if error is None or abs(cosine) < 2 * error:
            return f"not decided: {text}; give more --batches"
        if cosine < 0:
            return f"conflict: {text}"
        return f"no conflict: {text}; what is negative in single steps is noise of their batches"


def agreed(
    request: Request,
    *,
    listener: Listener = SILENT,
) -> Agreed:
    """Measure on `request.batches` batches of the training pipeline; of a run's folder its recipe, of weights theirs.

    Raises:
        NasvitEdgeError: several runs, no images, a checkpoint that is gone, weights or a recipe that cannot be.
    """
    given_too: dict[str, object] = {
        "--steps": request.steps,
        "--from-epoch": request.from_epoch,
        "--to-epoch": request.to_epoch,
    }
    given_too |= {"--html": request.html, "--png": request.png}
    for option, value in given_too.items():
        if value is not None:
            raise NasvitEdgeError(
                f"{option} is of what a run logged, and --at measures its weights anew: give one of the two"
            )
    if len(request.runs) != 1:
        raise NasvitEdgeError("--at looks at the weights of one run: give one")
    if request.data is None:
        raise NasvitEdgeError("--at measures on images: add --data")
    (folder,), at, count = request.runs, request.at or END, request.batches or BATCHES
    from nasvit_edge.train.agreement import agreements
    from nasvit_edge.train.loop import Settings, loader_for
    from nasvit_edge.train.world import World

    supernet, recipe = _weights(folder, at)
    if recipe.single:
        raise NasvitEdgeError(f"{str(folder)!r} trained one subnet alone: there are no others to agree with")
    images, _ = data_sets.training_splits(request.data, supernet.space, listener=listener)
    settings = Settings(out=Path(), workers=0, threads=2)
    with loader_for(images, recipe, supernet.space, settings, World()) as loader:
        steps = loader.steps(0, count)
        results = agreements(
            supernet,
            recipe,
            itertools.chain.from_iterable(steps),
            count,
            threads=settings.threads,
            listener=listener,
        )
    return Agreed(
        run=str(folder),
        at=at,
        space=supernet.space.name,
        data=images.name,
        recipe=recipe.name,
        agreements=tuple(results),
    )


def _weights(folder: Path, at: str) -> tuple[Supernet, Recipe]:
    from nasvit_edge.model.checkpoint import load_supernet
    from nasvit_edge.train.calibration import recipe_of

    if (folder / "recipe.json").exists():
        space, recipe = load_space(str(folder / "space.toml")), recipe_of_run(folder)
        if at != END:
            return _at_step(folder, at, space, recipe), recipe
        return load_supernet(str(folder / "supernet.safetensors"), space), recipe
    if at != END:
        raise NasvitEdgeError(
            f"{str(folder)!r} is no folder of a run, so it has no checkpoint {at!r}; --at {END} takes weights"
        )
    space = space_of(str(folder), None)
    supernet = load_supernet(str(folder), space)
    if "recipe" not in supernet.source:
        raise NasvitEdgeError(
            f"weights {str(folder)!r} do not say by which recipe they were trained; give the folder of the run"
        )
    return supernet, recipe_of(supernet.source, space)


def _at_step(folder: Path, at: str, space: SearchSpace, recipe: Recipe) -> Supernet:
    from nasvit_edge.model.supernet import Supernet
    from nasvit_edge.train.checkpoints import Checkpoints

    if not at.isdecimal():
        raise NasvitEdgeError(
            f"--at {at!r} is no step of a checkpoint; give its number, or {END} for the weights of the whole run"
        )
    supernet = Supernet(space, recipe.subnets.scaling)
    supernet.load_state_dict(Checkpoints(folder, {}).at(int(at))["model"])
    return supernet
