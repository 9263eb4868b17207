"""`adopt`: a pretrained network becomes the largest subnet of a space of its own, and elastic on one's own images."""

from __future__ import annotations

import re
import statistics
from pathlib import Path
from typing import TYPE_CHECKING

from nasvit_edge import data_sets, files, records, systems
from nasvit_edge.data_sets import folders, slices
from nasvit_edge.errors import CheckpointError, NasvitEdgeError, SpaceError, TrainingError
from nasvit_edge.listening import SILENT, Listener
from nasvit_edge.ops import macs
from nasvit_edge.records import Record
from nasvit_edge.requests.adopt import Request
from nasvit_edge.space import SearchSpace, SubnetConfig, read_space, space_toml
from nasvit_edge.train.recipe import Recipe, changes_of, load_recipe
from nasvit_edge.units import show_count, show_seconds

if TYPE_CHECKING:
    from nasvit_edge.adopting.reading import Network
    from nasvit_edge.adopting.sources import Pretrained
    from nasvit_edge.adopting.spaces import Images
    from nasvit_edge.train.run import Trained

START, ABOUT = "adopted.safetensors", "network.json"  # of the folder: weights to begin with, what was adopted
PARITY = (
    1e-5  # of the logits' standard deviation: what the largest subnet may differ by from the network itself
)
SMALL_PHOTOS, SMALL_SIZE = 64, 96  # pixels: photographs up to the first are seen at the second
_LEAST_SIZE, _STEP = 96, 32  # resolutions: from the least in such steps to the largest
_LOOKED_AT = 50  # photographs, for their size
FEW_A_CLASS = 50  # images: with fewer the stem stays as it is
_MOST_EPOCHS = 60


class Adopted(Record, frozen=True, kw_only=True):
    """What `network.json` says.

    Attributes:
        difference: of the largest subnet's logits and the network's own, before anything is trained, as a share of their
            standard deviation.
        macs: of the network at its own size; `smallest_macs`, `largest_macs`: of the space's ends at its largest resolution.
        licences: of code and weights: what is stated, and where.
    """

    schema: int = 1
    network: str
    weights: str
    licences: dict[str, str]
    difference: float
    macs: int
    smallest_macs: int
    largest_macs: int
    subnets: float
    space: str


class Report(Record, frozen=True, kw_only=True):
    """What an adoption came to."""

    network: Adopted
    out: str
    accuracy: dict[str, float]
    validation: str
    epochs: int


def adopt(request: Request, *, listener: Listener = SILENT) -> Report:
    """Read the network, check that its space computes the same, and train the space.

    Raises:
        NasvitEdgeError: no such network or weights; a block that the grammar does not have; data without classes.
    """
    systems.require_command("adopt")
    if request.labels is not None or request.classes is not None:
        raise NasvitEdgeError(
            "--labels and --classes are for --fixed; an elastic network takes the classes of --data"
        )
    assert request.photographs  # before anything is fetched
    files.writable_folder(request.out)
    recipe = load_recipe(request.recipe)
    if request.resume:
        space, about = _kept(request.out)
    else:
        _refuse_run(request.out)
        space, about = prepare(request, listener)
    recipe = _recipe(request, recipe, space, listener)
    trained = _train(request, space, recipe, listener)
    return Report(
        network=about,
        out=trained.out,
        accuracy=trained.accuracy,
        validation=trained.validation,
        epochs=recipe.run.epochs,
    )


def prepare(request: Request, listener: Listener = SILENT) -> tuple[SearchSpace, Adopted]:
    """Write the space and the weights that training begins with into the folder."""
    from nasvit_edge.adopting.reading import read_network
    from nasvit_edge.adopting.sources import find_network
    from nasvit_edge.adopting.spaces import elastic_space
    from nasvit_edge.adopting.weights import supernet_of
    from nasvit_edge.model.checkpoint import save_supernet
    from nasvit_edge.train.initial import initialised

    listener.note(f"loading {request.network}")
    source = find_network(request.network, request.weights)
    network = read_network(source.module)
    labels = data_sets.classes(request.photographs)
    images = _images(request, source, labels, listener)
    space = elastic_space(network, images, _name(request, len(labels)), request.least_macs)
    differs, whole = _compared(source, network)
    supernet = supernet_of(network, space, initial=initialised(space, request.seed))
    at_largest = [_at(space, config) for config in (space.smallest(), space.largest())]
    about = Adopted(
        network=source.name,
        weights=source.weights,
        licences=source.licences,
        difference=differs,
        macs=whole,
        smallest_macs=macs(space, at_largest[0]),
        largest_macs=macs(space, at_largest[1]),
        subnets=float(space.size()),
        space=space.name,
    )
    _tell(about, space, listener)
    stated = {f"{what} licence": licence for what, licence in source.licences.items()}
    metadata = {"space": space.name, "network": source.name, "network weights": source.weights, **stated}
    save_supernet(supernet, request.out / START, metadata)
    files.write_text(request.out / "space.toml", space_toml(space))
    records.write(request.out / ABOUT, about)
    return space, about


def _compared(source: Pretrained, network: Network) -> tuple[float, int]:
    """By how much the network's own space differs from it, and its MACs, at its own size."""
    import torch

    from nasvit_edge.adopting.spaces import Images, largest_space
    from nasvit_edge.adopting.weights import difference, supernet_of

    images = Images(
        size=source.size,
        resolutions=(source.size,),
        mean=source.mean,
        std=source.std,
        crop_share=source.crop_share,
    )
    space = largest_space(network, images, "network1")
    batch = torch.randn(2, 3, source.size, source.size, generator=torch.Generator().manual_seed(0))
    differs = difference(supernet_of(network, space, order="none"), source.module, batch)
    if not differs <= PARITY:
        raise SpaceError(
            f"{source.name} was read, but its space computes something else: logits differ by {differs:.1e} of their spread "
            f"({PARITY:g} is allowed); --fixed takes it as it is"
        )
    return differs, macs(space, space.largest())


def _images(request: Request, source: Pretrained, labels: tuple[str, ...], listener: Listener) -> Images:
    from nasvit_edge.adopting.spaces import Images

    size = request.size or _usual_size(request.photographs, source, listener)
    resolutions = tuple(range(_LEAST_SIZE, size, _STEP))
    return Images(
        size=size,
        resolutions=(*resolutions, size),
        mean=source.mean,
        std=source.std,
        crop_share=1.0 if _are_small(request.photographs) else source.crop_share,
        filter=source.filter,
        labels=labels,
    )


def _usual_size(data: str, source: Pretrained, listener: Listener) -> int:
    """The network's own, but for photographs that have nothing to show at it."""
    if not _are_small(data) or source.size <= SMALL_SIZE:
        return source.size
    listener.note(
        f"the images are small (up to {SMALL_PHOTOS} pixels): the space takes them at {SMALL_SIZE}, not {source.size}; --size says otherwise"
    )
    return SMALL_SIZE


def _are_small(data: str) -> bool:
    """Whether the photographs' shorter sides are up to SMALL_PHOTOS pixels, as a sample of them says."""
    from PIL import Image

    if not Path(data).is_dir():
        return True  # those with names are
    listing = folders.listing(slices.folder_of(data, "train", "test"))
    step = max(1, len(listing.paths) // _LOOKED_AT)
    sides = []
    for path in listing.paths[::step]:
        try:
            with Image.open(path) as image:
                sides.append(min(image.size))
        except OSError:
            continue  # training says which ones cannot be read
    return bool(sides) and statistics.median(sides) <= SMALL_PHOTOS


def _name(request: Request, classes: int) -> str:
    if request.name:
        return request.name
    plain = re.sub("[^A-Za-z0-9_-]", "-", request.network.rpartition(":")[2])
    return f"{plain}-{classes}c"


def _at(space: SearchSpace, config: SubnetConfig) -> SubnetConfig:
    """The same subnet at the largest resolution."""
    return space.from_choices([max(space.resolutions), *space.values(config)[1:]])


def _tell(about: Adopted, space: SearchSpace, listener: Listener) -> None:
    share = about.smallest_macs / about.largest_macs
    listener.note(
        f"{about.network} is the largest of {about.subnets:.2g} subnets of space {space.name!r}: logits as its own to "
        f"{about.difference:.0e} of their spread; at {max(space.resolutions)} pixels {show_count(about.largest_macs)} MACs, "
        f"the smallest {show_count(about.smallest_macs)} ({share:.0%})"
    )
    for what, licence in about.licences.items():
        listener.note(f"licence of its {what}: {licence}")


def _kept(out: Path) -> tuple[SearchSpace, Adopted]:
    """What an earlier call prepared."""
    if not (out / ABOUT).exists():
        raise CheckpointError(f"{str(out)!r} holds nothing to resume: no {ABOUT}")
    about = records.read(Adopted, out / ABOUT, "adoption")
    path = out / "space.toml"
    return read_space(files.read_bytes(path, "space").decode(errors="replace"), str(path)), about


def _refuse_run(out: Path) -> None:
    if (out / START).exists() and (out / "recipe.json").exists():
        raise CheckpointError(
            f"{str(out)!r} holds an adopted network already: go on with --resume, or choose another --out"
        )


def _recipe(request: Request, recipe: Recipe, space: SearchSpace, listener: Listener) -> Recipe:
    """The recipe with what the options and the data change of it."""
    path = request.out / "recipe.json"
    if request.resume and path.exists():
        from nasvit_edge.train.recipe import recipe_of_run

        return recipe_of_run(request.out)
    train, _ = data_sets.training_splits(request.photographs, space, listener=listener)
    changes = changes_of(request.values, run_epochs=request.epochs, run_batch_size=request.batch_size)
    a_class = len(train) / space.classes
    if a_class < FEW_A_CLASS and not any(change.startswith("run.frozen") for change in changes):
        listener.note(
            f"{a_class:.0f} images a class are few: the stem stays as it is (--set run.frozen=0 trains it)"
        )
        changes.append("run.frozen=1")
    recipe = recipe.with_values(changes) if changes else recipe
    if len(train) < recipe.run.batch_size:
        raise TrainingError(
            f"{len(train)} training images are fewer than the {recipe.run.batch_size} of one step; use a smaller --batch-size"
        )
    if request.epochs is not None or any(change.startswith("run.epochs") for change in changes):
        return recipe
    return _within_minutes(request, recipe, space, len(train), listener)


def _within_minutes(
    request: Request, recipe: Recipe, space: SearchSpace, images: int, listener: Listener
) -> Recipe:
    """As many epochs as fit into the minutes, by steps that are measured."""
    from nasvit_edge.train.estimate import estimate

    listener.note("measuring how long a step takes")
    one = replace_epochs(recipe, 1)
    needed = estimate(space, one, images, threads=request.threads, out=request.out)
    epochs = max(1, min(_MOST_EPOCHS, int(60 * request.minutes / needed.run_s)))
    listener.note(
        f"{epochs} epoch{'s' if epochs > 1 else ''} of {needed.steps} steps of {needed.step_s:.2g} s: about "
        f"{show_seconds(epochs * needed.run_s)} (--minutes {request.minutes:g})"
    )
    if needed.run_s > 60 * request.minutes:
        listener.note("one epoch takes longer than that; fewer images or a smaller --size take less")
    return replace_epochs(recipe, epochs)


def replace_epochs(recipe: Recipe, epochs: int) -> Recipe:
    """The recipe with so many epochs, and a warm-up of at most a tenth of them."""
    warm = min(recipe.run.warmup_epochs, epochs / 10)
    return recipe.with_values([f"run.epochs={epochs}", f"run.warmup_epochs={warm}"])


def _train(request: Request, space: SearchSpace, recipe: Recipe, listener: Listener) -> Trained:
    from nasvit_edge.train.loop import Settings
    from nasvit_edge.train.run import TrainingRequest, run

    path = request.out / "space.toml"
    asked = TrainingRequest(
        space=str(path),
        data=request.photographs,
        recipe=recipe,
        settings=Settings(
            out=request.out, seed=request.seed, threads=request.threads, workers=request.workers
        ),
        weights=str(request.out / START),
        name=space.name,
        resume=request.resume and any(request.out.glob("*.pt")),
        validate_every=0,
    )
    trained = run(asked, listener=listener)
    assert trained is not None  # one process
    return trained
