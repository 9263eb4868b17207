"""Accuracy predictors: fitted coefficients of a trained supernet, additive over stages.

    total    = base[resolution] + sum over stages and genes of effect[resolution][stage][gene][choice]
    accuracy = link(total) = total - saturation * max(0, total - base of the smallest)^2

All effects rise with the choice (of segmenters not the base with the resolution), and the link rises with the total,
so enlarging one gene never predicts less, and a search may add stages up and compare totals.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from msgspec import Meta

from nasvit_edge import files, records
from nasvit_edge.errors import NasvitEdgeError, SpaceError
from nasvit_edge.genes import has_choice
from nasvit_edge.hints import DATA, WEIGHTS, command
from nasvit_edge.records import Figure, Plain, Record, Sha256
from nasvit_edge.space import Gene, SearchSpace, SubnetConfig, get_gene, is_shipped, known_space

_Fraction = Annotated[float, Meta(gt=0, lt=1, description="a fraction above 0 and below 1")]
_Effects = Mapping[str, Mapping[int, float]]


class PredictorFile(Record, frozen=True, kw_only=True):
    """A predictor's file; see `AccuracyPredictor`. Older ones say less."""

    schema: Literal[1]
    kind: Literal["accuracy predictor"] | None = None
    space: Plain
    space_digest: str | None = None
    source: Plain
    unit: Literal["fractions"]
    uncertainty: _Fraction
    base: dict[str, _Fraction]
    effects: dict[str, dict[str, dict[str, Figure]]]
    saturation: Figure
    quality: (
        Annotated[str, Meta(pattern=r"^[\w -]{1,40}$(?!\n)", description="a word or two like 'mean IoU'")]
        | None
    ) = None
    weights_sha256: Sha256 | None = None
    weights_key: str | None = None
    seed: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyPredictor:
    """`accuracy(config)` -> predicted top-1 (or what `quality` names) as a fraction.

    Attributes:
        space: the name of the space whose configs it takes.
        source: what it was fitted to.
        uncertainty: the error to expect on a whole subnet, a fraction.
        base: resolution -> accuracy of the smallest subnet there.
        effects: resolution -> gene name (`mb4 depth`) -> choice -> gain over the smallest choice.
        saturation: the link's only parameter.
        genes: the space's genes, the resolution first.
        lengths: how many numbers a config of the space has in each list.
        quality: what is predicted, in a word or two.
        weights_sha256: of the file of weights that it was fitted to; None where it does not say.
        weights_key: the part of that file, where one was named.
    """

    name: str
    space: str
    source: str
    uncertainty: float
    base: Mapping[int, float]
    effects: Mapping[int, _Effects]
    saturation: float
    genes: tuple[Gene, ...]
    lengths: Mapping[str, int]
    quality: str = "accuracy"
    weights_sha256: str | None = None
    weights_key: str | None = None

    def __call__(self, config: SubnetConfig) -> float:
        """What is predicted of a config of the space, a fraction."""
        return float(self.link(self.additive(config)))

    def additive(self, config: SubnetConfig) -> float:
        """What plain addition of the smoothed effects predicts, before the link.

        Raises:
            SpaceError: a config that is not of the predictor's space, also one made by hand.
        """
        self._check(config)
        effects = self.effects[config.resolution]
        gains = (effects[gene.name][get_gene(config, gene)] for gene in self.genes[1:])
        return self.base[config.resolution] + sum(gains)

    def stage_effect(self, resolution: int, stage: str, choices: Mapping[str, int]) -> float:
        """The gain of a stage (`mb4`, `first_conv`, ...) over its smallest choices; `choices`: kind -> choice.

        For searches that add stages up: base + all stage effects = `additive`. A kind that `choices` leaves
        out stays smallest.

        Raises:
            SpaceError: a resolution, stage, kind or choice that the space does not have.
        """
        total = 0.0
        for kind, choice in choices.items():
            name = f"{stage} {kind.replace('_', ' ')}"
            try:
                total += self.effects[resolution][name][choice]
            except (KeyError, TypeError):
                raise SpaceError(
                    f"{name} {choice!r} at resolution {resolution!r} is not of space {self.space!r}"
                ) from None
        return total

    def _check(self, config: SubnetConfig) -> None:
        """SpaceError for the first list or choice that the space does not have."""
        for kind, length in self.lengths.items():
            values = getattr(config, kind, None)
            if not isinstance(values, tuple) or len(values) != length:
                raise SpaceError(
                    f"the config is not of space {self.space!r}: its {kind} is {values!r}, not {length} numbers; "
                    "make one with space.config(...)"
                )
        for gene in self.genes:
            choice = get_gene(config, gene)
            if not has_choice(gene, choice):
                raise SpaceError(
                    f"the config is not of space {self.space!r}: its {gene.name} is {choice!r}, "
                    f"not one of {' '.join(map(str, gene.choices))}"
                )

    def link(self, total: Any) -> Any:
        """From an additive total (or an array of them) to the prediction; strictly rising over all totals of the space."""
        gain = np.maximum(0.0, total - min(self.base.values()))
        return total - self.saturation * gain * gain


def quality_of(space: SearchSpace) -> str:
    """What the subnets of a space are measured by."""
    return "mean IoU" if space.is_dense else "accuracy"


def predictor_names() -> list[str]:
    """The shipped predictors."""
    return sorted(path.stem for path in files.data("accuracy").glob("*.json"))


def has_predictor(space: SearchSpace) -> bool:
    """Whether a predictor is shipped for this very space, not for another that is called so."""
    return space.name in predictor_names() and is_shipped(space)


def predictor_path(name: str | Path) -> Path:
    """The file of a shipped predictor, or the path itself; NasvitEdgeError for an unknown name."""
    path = Path(name)
    if path.suffix == ".json":
        return path
    if str(name) not in predictor_names():
        raise NasvitEdgeError(
            f"unknown accuracy predictor {str(name)!r}; there are {', '.join(predictor_names())}, or give a path to a .json file"
        )
    return files.data("accuracy", f"{name}.json")


def load_accuracy(name: str | Path, space: SearchSpace | None = None) -> AccuracyPredictor:
    """A shipped predictor by name, or one from a JSON file (for a space that is not shipped, give that).

    Raises:
        NasvitEdgeError: unknown name, or a file that is damaged or does not fit its space.
    """
    path = predictor_path(name)
    file = records.read(PredictorFile, path, "accuracy predictor")
    if space is not None and space.name == file.space and _of_another(path, file, space):
        raise NasvitEdgeError(
            f"accuracy predictor {str(path)!r} is for another space that is called {space.name!r}, too; fit one for this: "
            + command("accuracy", "fit", space=space.given, supernet=WEIGHTS, data=DATA, out="own.json")
        )
    try:
        return predictor_of(path.stem, file, space)
    except NasvitEdgeError as error:
        raise NasvitEdgeError(f"accuracy predictor {str(path)!r}: {error}") from None
    except ValueError as error:
        raise NasvitEdgeError(
            f"accuracy predictor {str(path)!r} is damaged ({str(error)[:160]}); fit it again"
        ) from None


def _of_another(path: Path, file: PredictorFile, space: SearchSpace) -> bool:
    """Whether a predictor of a space's name is of other content; what does not say its space's digest is of a shipped one."""
    if file.space_digest is not None:
        return file.space_digest != space.digest()
    return path == files.data("accuracy", f"{space.name}.json") and not is_shipped(space)


def predictor_of(name: str, file: PredictorFile, space: SearchSpace | None = None) -> AccuracyPredictor:
    """The predictor in a file; ValueError where it is not of its space, or falls."""
    if space is None or space.name != file.space:
        space = known_space(file.space)
    resolutions = [str(r) for r in space.resolutions]
    _same_keys(file.base, resolutions, "base")
    _same_keys(file.effects, resolutions, "effects")
    predictor = AccuracyPredictor(
        name=name,
        space=space.name,
        source=file.source,
        uncertainty=file.uncertainty,
        base={int(r): file.base[r] for r in resolutions},
        effects={int(r): _effects(space, file.effects[r], f"effects {r}") for r in resolutions},
        saturation=file.saturation,
        genes=space.genes,
        lengths=Counter(gene.kind for gene in space.genes[1:]),
        quality=file.quality or quality_of(space),
        weights_sha256=file.weights_sha256,
        weights_key=file.weights_key,
    )
    _check_link(predictor)
    return predictor


def _effects(space: SearchSpace, table: Mapping[str, Mapping[str, float]], where: str) -> _Effects:
    """Gene name -> choice -> gain; every choice of the space, from 0 upwards and never falling."""
    _same_keys(table, [gene.name for gene in space.genes[1:]], where)
    effects = {}
    for gene in space.genes[1:]:
        what = f"{where} {gene.name}"
        _same_keys(table[gene.name], [str(choice) for choice in gene.choices], what)
        gains = [table[gene.name][str(choice)] for choice in gene.choices]
        if gains[0] != 0 or gains != sorted(gains):
            raise ValueError(f"{what!r} is {gains}; gains must start at 0 and never fall")
        effects[gene.name] = dict(zip(gene.choices, gains, strict=True))
    return effects


def _same_keys(table: Mapping[str, Any], expected: list[str], where: str) -> None:
    """`table` must have exactly the `expected` keys."""
    for key in expected:
        if key not in table:
            raise ValueError(f"{where!r} has no {key!r}")
    for key in table:
        if key not in expected:
            raise ValueError(f"{where!r} has an unknown key {key!r}")


def _check_link(predictor: AccuracyPredictor) -> None:
    """The link must rise over every total that the space can reach, and stay a fraction."""
    highest = max(
        predictor.base[r] + sum(max(gains.values()) for gains in predictor.effects[r].values())
        for r in predictor.base
    )
    gain = highest - min(predictor.base.values())
    if 2 * predictor.saturation * gain >= 1 or not 0 < predictor.link(highest) < 1:
        raise ValueError(f"'saturation' is {predictor.saturation!r}: the link would fall")
