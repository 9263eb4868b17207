"""Search spaces as data, and the subnets in them.

A space is a TOML file (`nasvit_edge/data/spaces/`, or a user's own). Lists follow the order of
its stages: `width` is (stem, stages..., head), `depth`, `kernel_size` and `expand_ratio` are (stages...).
Genes are declared in `specs.GENES`; where and how many a space has is read off what its parts list.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import random
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nasvit_edge import files, space_file, space_parts
from nasvit_edge.errors import SpaceError
from nasvit_edge.genes import (
    GENES,
    check_keys,
    check_lists,
    count,
    fixed,
    has_choice,
    listed,
    listed_genes,
    risen,
    with_only,
)
from nasvit_edge.genes import Gene as Gene
from nasvit_edge.genes import SubnetConfig as SubnetConfig
from nasvit_edge.genes import get_gene as get_gene
from nasvit_edge.preparation import (
    DEPLOYED,
    PUBLISHED,
    PUBLISHED_SHARE,
    SMALL_IMAGES,
    Filter,
    Preparation,
    checked_chain,
    shorter_side,
)
from nasvit_edge.specs import AttentionSpec, HeadSpec, NetworkSpec, Part, SqueezeSpec, StageSpec, StemSpec


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """A family of subnets that share weights; see `load_space`.

    Attributes:
        resolutions: heights of the input; `aspect` is (width, height) of its shape.
        image_size: side of the images that classifiers are trained and judged on, which are resized inside the model
            to a subnet's resolution; the largest resolution if not given (0).
        crop_share: how much of an image's shorter side that is; if not given (0), 1 of images up to 64 pixels and
            0.875 (224 of 256) of larger ones.
        filter: how image files are resized: by Pillow's "bicubic" or "bilinear"; inside the model it is always bicubic.
        mask_values: of segmenters, the value that each class has in masks, in order; empty: what the data set's kind
            says, in folders of your own 0 to classes - 1.
        activation: of parts that name none. `squeeze`: how squeeze-excitation is made.
        widths_rise: whether only subnets are in it whose widths never fall from stem to last stage.
        padding: `even`, k // 2 all round, or `same`, as TensorFlow does it (docs/spaces.md).
        norm_eps: what batch norm adds to variances.
        network: of a space of one, the network in place of stem, stages and head, which are then empty.
    """

    name: str
    resolutions: tuple[int, ...]
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    labels: str | tuple[str, ...]
    stem: StemSpec | None = None
    stages: tuple[StageSpec, ...] = ()
    head: HeadSpec | None = None
    network: NetworkSpec | None = None
    attention: AttentionSpec = field(default_factory=AttentionSpec)
    aspect: tuple[int, int] = (1, 1)
    image_size: int = 0
    crop_share: float = 0.0
    filter: Filter = "bicubic"
    mask_values: tuple[int, ...] = ()
    activation: str = "silu"
    squeeze: SqueezeSpec = field(default_factory=SqueezeSpec)
    widths_rise: bool = False
    padding: str = "even"
    norm_eps: float = 1e-5
    origin: str = field(default="", compare=False, repr=False)  # as it was given to `load_space`
    genes: tuple[Gene, ...] = field(init=False, compare=False, repr=False)
    # stem, stages, head: what has genes
    parts: tuple[Part, ...] = field(init=False, compare=False, repr=False)
    _fixed: tuple[dict[str, Any], ...] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        grammar = (self.stem, *self.stages, self.head)
        object.__setattr__(self, "parts", grammar if self.network is None else (self.network,))
        object.__setattr__(self, "_fixed", tuple(map(fixed, self.parts)))
        object.__setattr__(self, "genes", tuple(listed_genes(self.resolutions, self.parts)))
        if self.is_dense or not self.image_size:
            object.__setattr__(self, "image_size", max(self.resolutions))
        if self.is_dense or not self.crop_share:
            share = 1.0 if self.is_dense or self.image_size <= SMALL_IMAGES else PUBLISHED_SHARE
            object.__setattr__(self, "crop_share", share)

    def config(self, *, resolution: int, **lists: Sequence[int]) -> SubnetConfig:
        """The subnet with these choices, a list for each kind of gene; SpaceError names the first one that the space does not have."""
        counts = self.counts
        check_keys(lists, counts, "config")
        check_lists(lists, counts, self.name)
        config = SubnetConfig(resolution, **{kind: tuple(values) for kind, values in lists.items()})
        for gene in self.genes:
            value = get_gene(config, gene)
            if not has_choice(gene, value):
                choices = " ".join(map(str, gene.choices))
                raise SpaceError(f"{gene.name} is {value!r}; space {self.name!r} has {choices}")
        for gene, value, least in zip(
            self.genes, self.values(config), self.rising(self.values(config)), strict=True
        ):
            if value < least:
                raise SpaceError(
                    f"{gene.name} is {value!r}, less than the width before; those of space {self.name!r} rise"
                )
        return config

    def config_from(self, values: Any, what: str = "config") -> SubnetConfig:
        """A config from untrusted JSON (the object of `to_dict`)."""
        known = ("resolution", *self.counts)
        if not isinstance(values, dict):
            raise SpaceError(f"{what} is not an object with {', '.join(known)}")
        check_keys(values, known, what)
        return self.config(**values)

    @property
    def counts(self) -> dict[str, int]:
        """Kind of gene -> how many there are, which is the length of a config's list."""
        return dict(Counter(gene.kind for gene in self.genes[1:]))

    def chosen(self, config: SubnetConfig) -> tuple[dict[str, int], ...]:
        """For each of `parts` its numbers, fixed or chosen by a subnet, by the genes' keys."""
        parts = tuple(part.copy() for part in self._fixed)
        for gene in self.genes[1:]:
            parts[gene.place][gene.key] = get_gene(config, gene)
        for place, part in enumerate(self.parts):
            if listed(part, "width") == "same":
                parts[place]["width"] = parts[place - 1]["width"]
        return parts

    def width_gene(self, place: int) -> int | None:
        """The number of the gene that decides how wide a part is, and so what enters the next; None of a fixed one."""
        while 0 < place < len(self.parts) and listed(self.parts[place], "width") == "same":
            place -= 1
        numbers = (n for n, gene in enumerate(self.genes) if (gene.kind, gene.place) == ("width", place))
        return next(numbers, None)

    def near(self, place: int) -> tuple[int, ...]:
        """The numbers of the genes that a part's ops depend on: resolution, the width that enters, its own."""
        enters = self.width_gene(place - 1)
        numbers = (n for n, gene in enumerate(self.genes) if gene.place == place)
        return (0, *(() if enters is None else (enters,)), *numbers)

    def varied(self, config: SubnetConfig, choices: Mapping[int, int]) -> SubnetConfig:
        """`config` with other choices of some genes, which are given by number."""
        values = [choices.get(n, value) for n, value in enumerate(self.values(config))]
        return self.from_choices(self.rising(values))

    def values(self, config: SubnetConfig) -> list[int]:
        """The choice of each gene; `from_choices` is the inverse."""
        return [get_gene(config, gene) for gene in self.genes]

    def rising(self, values: Sequence[int]) -> list[int]:
        """Choices of all genes, those of widths raised, where they have to rise, to the least that is no less than the one before."""
        return risen(values, self.genes, self.ordered)

    @property
    def ordered(self) -> list[tuple[int | None, int]]:
        """Where widths have to rise: for each in order the number of its gene, or None and what it is fixed at."""
        places = range(len(self.parts) - 1) if self.widths_rise else ()
        widths = ((self.width_gene(place), listed(self.parts[place], "width")) for place in places)
        return [(n, width if isinstance(width, int) else 0) for n, width in widths]

    @property
    def is_dense(self) -> bool:
        """Whether its subnets label pixels, not images."""
        return self.head is not None and self.head.kind == "mlp"

    @property
    def levels(self) -> tuple[int, ...]:
        """The stages whose outputs are features: the last one of each stride beyond the stem's."""
        assert self.stem is not None
        total, levels = self.stem.stride, []
        for i, stage in enumerate(self.stages):
            total *= stage.stride
            ends = i + 1 == len(self.stages) or self.stages[i + 1].stride > 1
            if ends and total > self.stem.stride:
                levels.append(i)
        return tuple(levels) or (len(self.stages) - 1,)

    @property
    def strides(self) -> tuple[int, ...]:
        """Input pixels along a side of a feature's cell, for each level."""
        assert self.stem is not None
        return tuple(
            self.stem.stride * math.prod(stage.stride for stage in self.stages[: i + 1]) for i in self.levels
        )

    def input_size(self, resolution: int) -> tuple[int, int]:
        """Height and width of the images at a resolution."""
        return (resolution, resolution * self.aspect[0] // self.aspect[1])

    def preparation(self, resolution: int | None = None, chain: str = PUBLISHED) -> Preparation:
        """How images become the input of a subnet of a resolution; None: of one that takes `image_size`.

        Scenes are resized whole to the input, whatever the chain.
        """
        size = (self.image_size,) * 2 if resolution is None else self.input_size(resolution)
        rule: dict[str, Any] = {"mean": self.mean, "std": self.std, "filter": self.filter, "size": size}
        rule |= {"chain": checked_chain(chain)}
        if self.is_dense:
            return Preparation(resize=size, crop=size, **rule)
        side = min(size) if chain == DEPLOYED else self.image_size
        rule |= {"resize": shorter_side(side, self.crop_share), "crop_share": self.crop_share}
        return Preparation(crop=(side, side), **rule)

    def smallest(self) -> SubnetConfig:
        """Every gene at its smallest choice."""
        return self.from_choices([min(gene.choices) for gene in self.genes])

    def largest(self) -> SubnetConfig:
        """Every gene at its largest choice."""
        return self.from_choices([max(gene.choices) for gene in self.genes])

    def sample(self, rng: random.Random) -> SubnetConfig:
        """Every gene uniform and independent; then widths rise where they have to."""
        return self.from_choices(self.rising([rng.choice(gene.choices) for gene in self.genes]))

    def from_choices(self, values: Sequence[int]) -> SubnetConfig:
        """The subnet with these choices of all genes, unchecked."""
        lists: dict[str, list[int]] = {kind: [] for kind in GENES}
        for gene, value in zip(self.genes[1:], values[1:], strict=True):
            lists[gene.kind].append(value)
        return SubnetConfig(values[0], **{kind: tuple(chosen) for kind, chosen in lists.items()})

    def size(self) -> int:
        """The number of subnets."""
        return count([gene.choices for gene in self.genes], self.ordered)

    def all_configs(self) -> Iterator[SubnetConfig]:
        """Every subnet, for spaces small enough."""
        for values in itertools.product(*(gene.choices for gene in self.genes)):
            if self.rising(values) == list(values):
                yield self.from_choices(values)

    def only(self, config: SubnetConfig, *, name: str = "") -> SearchSpace:
        """The space that has this subnet alone: one choice per gene, the same ops; by default `NAME-subnet-HASH`."""
        choices = self.chosen(config)
        return replace(
            self,
            name=name
            or f"{re.sub('-subnet(-[0-9a-f]{8})?$', '', self.name)}-subnet-{zlib.crc32(repr(config).encode()):08x}",
            resolutions=(config.resolution,),
            stem=self.stem and with_only(self.stem, choices[0]),
            stages=tuple(map(with_only, self.stages, choices[1:])),
            head=self.head and with_only(self.head, choices[-1]),
        )

    def with_labels(self, labels: Sequence[str]) -> SearchSpace:
        """The same space for other classes; SpaceError for none, or for names that are no names of classes (`checked_labels`)."""
        labels = space_parts.checked_labels(labels)
        if not labels:
            raise SpaceError(f"space {self.name!r} cannot have no classes; give at least one label")
        masks = self.mask_values if len(labels) == self.classes else ()
        return replace(self, classes=len(labels), labels=labels, mask_values=masks)

    def for_classes(self, labels: Sequence[str], *, name: str = "") -> SearchSpace:
        """`with_labels` under a name of its own: what is measured and trained of it is not this space's; by default `NAME-8c`."""
        space, base = self.with_labels(labels), re.sub("-[0-9]+c$", "", self.name)
        return replace(space, name=name or f"{base}-{space.classes}c", origin="")

    def digest(self) -> str:
        """Eight digits of what the space is, whatever it is called."""
        return hashlib.sha256(space_toml(replace(self, name="")).encode()).hexdigest()[:8]

    @property
    def given(self) -> str:
        """How a command names this space: its file, or its name where it is shipped or nobody wrote it."""
        return self.origin or self.name

    def label_names(self) -> list[str]:
        """The class names; numbers where the space names a label set that is not installed."""
        if isinstance(self.labels, tuple):
            return list(self.labels)
        return space_parts.foreign_labels(self.labels, self.classes)


def families(space: str) -> list[str]:
    """A space's name and those of the spaces that it is from, nearest first: of subnets (`SearchSpace.only`) and of other classes."""
    names = [space]
    while (shorter := re.sub("(-subnet(-[0-9a-f]{8})?|-[0-9]+c)$", "", names[-1])) != names[-1]:
        names.append(shorter)
    return names


def family(space: str) -> str:
    """The last of `families`: it has the recipes and, but for classifiers of as many classes, the ops."""
    return families(space)[-1]


def load_space(name: str | Path | SearchSpace) -> SearchSpace:
    """A shipped space by name (`nasvit`, `alphanet`, `nano`), or a TOML file by path; one that is loaded stays what it is."""
    if isinstance(name, SearchSpace):
        return name
    path = Path(name)
    if path.suffix != ".toml":
        path = files.data("spaces", f"{name}.toml")
        if str(name) not in space_names():
            raise SpaceError(
                f"unknown space {str(name)!r}; there are {', '.join(space_names())}, or give a path to a .toml file"
            )
    return replace(parse_space(files.read_toml(path, "space"), path), origin=str(name))


def is_shipped(space: SearchSpace) -> bool:
    """Whether a space is the shipped one of its name, and not another that is called so."""
    return space.name in space_names() and load_space(space.name) == space


def has_weights(space: SearchSpace) -> bool:
    """Whether weights are shipped for this very space."""
    return files.data("weights", f"{space.name}.safetensors").is_file() and is_shipped(space)


def known_space(name: object) -> SearchSpace:
    """A shipped space by what a file calls it, and never a path: SpaceError for every other text."""
    if name not in space_names():
        raise SpaceError(f"unknown space {str(name)[:64]!r}; there are {', '.join(space_names())}")
    return load_space(str(name))


def space_names() -> list[str]:
    """The shipped spaces."""
    return sorted(path.stem for path in files.data("spaces").glob("*.toml"))


def parse_space(table: dict[str, object], path: Path) -> SearchSpace:
    """Check every key of a space's TOML; SpaceError names file and key."""
    return SearchSpace(**space_file.read(table, path))


def read_space(text: object, where: str) -> SearchSpace:
    """The space of a TOML that a file holds; SpaceError where it is none."""
    import tomllib

    try:
        return parse_space(tomllib.loads(str(text)), Path(where))
    except (ValueError, RecursionError) as error:
        raise SpaceError(f"space in {where!r} is not valid TOML: {error}") from None


def space_toml(space: SearchSpace) -> str:
    """The TOML of a space; `parse_space` reads it back as it was."""
    return space_file.text({name: getattr(space, name) for name in space_file.NAMES}, is_dense=space.is_dense)


def read_config(path: Path, space: SearchSpace) -> SubnetConfig:
    """A config file: the JSON object of `to_dict`."""
    values = files.read_json(path, "config")
    try:
        return space.config_from(values)
    except SpaceError as error:
        raise SpaceError(f"config {str(path)!r}: {error}") from None
