"""Recipes: how a supernet is trained, as data (`nasvit_edge/data/recipes/*.toml`, or a user's own).

A recipe may say `extends = "nasvit"` and give only what differs. Unknown keys are errors.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta

from nasvit_edge import files, records
from nasvit_edge.errors import RecipeError
from nasvit_edge.preparation import SMALL_IMAGES
from nasvit_edge.records import RecordError, Strict
from nasvit_edge.space import SearchSpace, family, load_space, space_names


def _within(low: float, high: float) -> Meta:
    """The range of a number."""
    return Meta(ge=low, le=high, description=f"it must be {low:g} to {high:g}")


class _Part(Strict, frozen=True, kw_only=True, omit_defaults=False):
    """A table of a recipe."""


class Augment(_Part, frozen=True, kw_only=True):
    """How training images are varied; `alpha` 0, `ops` 0, `""` and probability 0 mean: not at all."""

    crop: Literal["resized", "padded", "none"] = "resized"  # random resized crop; shifted by `padding`
    smallest_crop: Annotated[float, _within(0.01, 1.0)] = 0.08  # share of the area, for "resized"
    padding: Annotated[int, _within(0, 64)] = 4  # pixels each way, for "padded"
    flip: Annotated[float, _within(0.0, 1.0)] = 0.5
    randaugment_ops: Annotated[int, _within(0, 8)] = 1
    randaugment_magnitude: Annotated[int, _within(0, 30)] = 1  # timm's of 10, torchvision's of 30
    randaugment_increasing: bool = False  # timm's: every operation is stronger with the magnitude
    ops: Literal["torchvision", "timm"] = "torchvision"  # whose RandAugment; older weights do not say
    autoaugment: Literal["", "imagenet", "cifar10", "v0"] = ""  # v0: TensorFlow's, by timm
    erasing: Annotated[float, _within(0.0, 1.0)] = 0.01
    erasing_fill: Literal["mean", "noise"] = "mean"  # older weights do not say
    mixup: Annotated[float, _within(0.0, 8.0)] = 0.01  # alpha of the beta distribution
    cutmix: Annotated[float, _within(0.0, 8.0)] = 0.01


class SceneCrops(_Part, frozen=True, kw_only=True):
    """How crops of scenes are made, for spaces that label pixels; `[augment]` is for images with one label."""

    height: Annotated[int, _within(0, 8192)] = 0  # of a crop in pixels; 0: the space's largest
    width: Annotated[int, _within(0, 8192)] = 0
    smallest_scale: Annotated[float, _within(0.1, 1.0)] = 0.5  # of the image before it is cropped
    largest_scale: Annotated[float, _within(1.0, 8.0)] = 2.0
    flip: Annotated[float, _within(0.0, 1.0)] = 0.5
    jitter: Annotated[float, _within(0.0, 1.0)] = (
        0.4  # brightness, contrast and saturation are multiplied by 1 - jitter to 1 + jitter
    )
    smallest_share: Annotated[float, _within(0.0, 1.0)] = (
        0.1  # of the image's pixels in a crop that must be labelled; best of ten tries
    )

    def size(self, space: SearchSpace) -> tuple[int, int]:
        """Height and width of a crop."""
        height, width = space.input_size(max(space.resolutions))
        return (self.height or height, self.width or width)


class Subnets(_Part, frozen=True, kw_only=True):
    """Which subnets a step trains beside the largest (the sandwich rule, BigNAS)."""

    smallest: bool = True
    random: Annotated[int, _within(0, 64)] = 2
    scaling: Literal["switchable", "shared", "none"] = "switchable"  # layer scaling of transformer blocks
    dropout: Annotated[float, _within(0.0, 0.9)] = 0.0  # before the classifier, of the largest only
    # of the last two stages' MBConvs, rising; of the largest only
    drop_connect: Annotated[float, _within(0.0, 0.9)] = 0.0


class Loss(_Part, frozen=True, kw_only=True):
    """What the largest learns from labels or a teacher, and the others from the largest."""

    label_smoothing: Annotated[float, _within(0.0, 0.9)] = 0.0
    teacher_scale: Annotated[float, _within(0.01, 100.0)] = (
        5.0  # softmax(scale * logits) of an external teacher
    )
    distillation: Literal["alpha", "kl", "labels"] = "alpha"  # the adaptive alpha-divergence of AlphaNet
    importance_clip: Annotated[float, _within(1.0, 1e6)] = 5.0  # of the weights of alpha = -1
    balance: Annotated[float, _within(0.0, 1.0)] = (
        0.0  # of the classes of scenes: 1 median-frequency weights, 0 none
    )


class Merge(_Part, frozen=True, kw_only=True):
    """How the gradients of largest and subnets become one (spec section 4, step 3)."""

    project: bool = True
    project_from_epoch: Annotated[int, _within(0, 100_000)] = 101
    largest_coefficient: Annotated[float, _within(0.0, 1e6)] = 2.0
    clip_subnets: Annotated[float, _within(0.0, 1e6)] = 1.0  # norm of their summed gradient; 0: not clipped
    clip: Annotated[float, _within(0.0, 1e6)] = 0.0  # norm of the merged gradient; 0: not clipped
    clip_value: Annotated[float, _within(0.0, 1e6)] = (
        0.0  # each element of the merged gradient; 0: not clipped
    )


class Optimizer(_Part, frozen=True, kw_only=True):
    """AdamW, Adam, SGD or TensorFlow's RMSProp; a cosine or steps of an exponential after a linear warm-up.

    Rates are for `reference_batch` images a step and scale with the real number, by `least_factor` at least; 0: they are as given.
    """

    kind: Literal["adamw", "adam", "sgd", "rmsprop"] = "adamw"
    schedule: Literal["cosine", "exponential"] = "cosine"
    decay_rate: Annotated[float, _within(0.01, 1.0)] = 0.97  # exponential: what the rate is multiplied with
    # after each of so many epochs, down to last_rate
    decay_epochs: Annotated[float, _within(0.01, 10_000.0)] = 2.4
    least_factor: Annotated[float, _within(0.0, 1.0)] = 0.0
    learning_rate: Annotated[float, _within(1e-8, 100.0)] = 3e-4
    first_rate: Annotated[float, _within(0.0, 100.0)] = 5e-7
    last_rate: Annotated[float, _within(0.0, 100.0)] = 5e-6
    reference_batch: Annotated[int, _within(0, 1_000_000)] = 512
    weight_decay: Annotated[float, _within(0.0, 1.0)] = 0.0  # of matrices and kernels, not of vectors
    head_factor: Annotated[float, _within(0.01, 1000.0)] = 1.0  # the classifier's rate: times all others'
    momentum: Annotated[float, _within(0.0, 0.9999)] = 0.9  # SGD's (Nesterov), and AdamW's first beta


class Run(_Part, frozen=True, kw_only=True):
    """How long, and in what pieces."""

    epochs: Annotated[int, _within(1, 100_000)] = 400
    warmup_epochs: Annotated[float, _within(0.0, 10_000.0)] = 5.0
    batch_size: Annotated[int, _within(2, 65_536)] = 64  # images a process and step (several parts: together)
    parts: Annotated[int, _within(1, 4096)] = (
        1  # gradient accumulation: passes a step, each with its own batch statistics
    )
    ema: Annotated[float, _within(0.0, 0.999999)] = 0.99985  # decay of the averaged weights; 0: none
    frozen: Annotated[int, _within(0, 64)] = (
        0  # parts that stay as they are: 1 the stem, 2 the first stage, too
    )
    ema_ramp: bool = (
        False  # the decay is at most (1 + step) / (10 + step): short runs forget where they began
    )


class Recipe(_Part, frozen=True, kw_only=True):
    """Everything that decides the outcome of a run beside space, data, seed and teacher."""

    name: str
    about: str = ""
    space: str = ""  # the space it is for, where it matters
    single: bool = False  # one subnet, trained alone
    run: Run = Run()
    subnets: Subnets = Subnets()
    loss: Loss = Loss()
    merge: Merge = Merge()
    optimizer: Optimizer = Optimizer()
    augment: Augment = Augment()
    scenes: SceneCrops = SceneCrops()

    def to_dict(self) -> dict[str, object]:
        """Plain JSON; the inverse of `parse_recipe`."""
        return records.content(self)

    def with_values(self, values: Sequence[str]) -> Recipe:
        """A copy changed by texts such as `"optimizer.learning_rate=2e-3"`; RecipeError names the first bad one."""
        content = self.to_dict()
        for text in values:
            _assign(content, text)
        return parse_recipe(content, f"{self.name} with {', '.join(values)}")


def recipe_names() -> list[str]:
    """The shipped recipes."""
    return sorted(path.stem for path in files.data("recipes").glob("*.toml"))


def load_recipe(name: str | Path) -> Recipe:
    """A shipped recipe by name, or a TOML file by path."""
    content, path = _read(str(name), ())
    return parse_recipe(content, str(path))


def chosen(
    space: str | None, recipe: str | None, changes: Sequence[str], fork: Path | None = None
) -> tuple[str, Recipe]:
    """Space and recipe, where one of both may be left to the other, or both to a run that is forked.

    `changes` are `key=value` of the recipe.
    """
    rule = load_recipe(recipe) if recipe is not None else None
    if fork is not None:
        space, rule = space or str(fork / "space.toml"), rule or recipe_of_run(fork)
    space = space or (rule.space if rule else "") or "nano"
    if rule is None:
        rule = recipe_for(load_space(space))
    return space, rule.with_values(changes) if changes else rule


def recipe_of_run(out: Path) -> Recipe:
    """The recipe that a run's folder says it was trained by.

    Raises:
        RecipeError: no run is there, or its recipe has keys or values that are none any more.
    """
    path = out / "recipe.json"
    if not path.exists():
        raise RecipeError(f"{str(out)!r} is no folder of a run: it has no recipe.json")
    return parse_recipe(files.read_json(path, "recipe").get("recipe"), str(path))


def changes_of(values: Sequence[str] | None, **given: float | None) -> list[str]:
    """`--set` texts, and those of options that stand for one: `run_epochs=3` is `run.epochs=3`."""
    options = [f"{key.replace('_', '.', 1)}={value!r}" for key, value in given.items() if value is not None]
    changes: dict[str, str] = {}
    for text in (*(values or ()), *options):
        key = text.partition("=")[0].strip()
        if changes.setdefault(key, text) != text:
            raise RecipeError(f"{changes[key]!r} and {text!r} contradict each other: give {key} once")
    return list(changes.values())


def recipe_for(space: SearchSpace) -> Recipe:
    """The recipe of a space: one that is made for it, else by what its images are."""
    name = family(space.name)
    if name in recipe_names() and load_recipe(name).space == name:
        return load_recipe(name)
    if space.is_dense:
        return load_recipe("scenes")
    return load_recipe("nano" if space.image_size <= SMALL_IMAGES else "nasvit")


def _read(name: str, seen: tuple[Path, ...]) -> tuple[dict[str, Any], Path]:
    path = Path(name)
    if path.suffix != ".toml":
        if name not in recipe_names():
            raise RecipeError(
                f"unknown recipe {name!r}; there are {', '.join(recipe_names())}, or give a path to a .toml file"
            )
        path = files.data("recipes", f"{name}.toml")
    content = files.read_toml(path, "recipe")
    if content.pop("schema", None) != 1:
        raise RecipeError(f"recipe {str(path)!r}: key 'schema' must be 1")
    base = content.pop("extends", None)
    if base is None:
        return content, path
    seen = (*seen, path.resolve())
    if not files.is_name(base) or _place(base, path).resolve() in seen:
        raise RecipeError(
            f"recipe {str(path)!r}: key 'extends' is {base!r}; it must name another recipe: a shipped one, or a file beside it"
        )
    return _merged(_read(str(_place(base, path)) if base.endswith(".toml") else base, seen)[0], content), path


def _place(base: str, path: Path) -> Path:
    """Where the recipe is that the one at `path` extends: shipped, or a file beside it."""
    return path.parent / base if base.endswith(".toml") else files.data("recipes", f"{base}.toml")


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, object]:
    merged = copy.deepcopy(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = {**merged[key], **value} if both else value
    return merged


def parse_recipe(content: Any, where: str) -> Recipe:
    """Check every key of a recipe; RecipeError names file and key."""
    try:
        recipe = records.parse(Recipe, content, f"recipe {where!r}")
    except RecordError as error:
        raise RecipeError(str(error)) from None
    if recipe.space and recipe.space not in space_names():
        raise RecipeError(
            f"recipe {where!r}: key 'space' is {recipe.space[:64]!r}; it must be one of {', '.join(space_names())}"
        )
    if not recipe.single and not recipe.subnets.smallest and not recipe.subnets.random:
        raise RecipeError(
            f"recipe {where!r}: a supernet needs subnets: give subnets.smallest or subnets.random"
        )
    if recipe.run.batch_size % recipe.run.parts or recipe.run.batch_size // recipe.run.parts < 2:
        raise RecipeError(
            f"recipe {where!r}: run.batch_size {recipe.run.batch_size} does not split into run.parts {recipe.run.parts} of at least 2 images"
        )
    return recipe


def _assign(content: dict[str, object], text: str) -> None:
    """Put the value of `"a.b=1"` into `content`."""
    import tomllib

    key, equals, value = text.partition("=")
    *parents, leaf = key.strip().split(".")
    target: Any = content
    for parent in parents:
        target = target.get(parent) if isinstance(target, dict) else None
    if not equals or not isinstance(target, dict) or leaf not in target or isinstance(target[leaf], dict):
        raise RecipeError(
            f"--set {text!r}: give a recipe's key and value, like optimizer.learning_rate=2e-3; {_keys(content, key)}"
        )
    try:
        target[leaf] = tomllib.loads(f"x = {value.strip()}")["x"]
    except tomllib.TOMLDecodeError:
        target[leaf] = value.strip()  # text without quotes


def _keys(content: dict[str, object], key: str) -> str:
    """What there is where `key` begins."""
    section = key.partition(".")[0].strip()
    part = content.get(section)
    return f"{section} has {', '.join(part)}" if isinstance(part, dict) else f"there are {', '.join(content)}"
