"""Accuracy predictors: fitted coefficients of a trained supernet, additive over stages.

    total    = base[resolution] + sum over stages and genes of effect[resolution][stage][gene][choice]
    accuracy = link(total) = total - saturation * max(0, total - base of the smallest)^2

All effects rise with the choice, and the link rises with the total, so enlarging one gene never
predicts less, and a search may add stages up and compare totals.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasvit_edge import files
from nasvit_edge.errors import NasvitEdgeError, SpaceError
from nasvit_edge.space import Gene, SearchSpace, SubnetConfig, get_gene, load_space

SCHEMA = 1
_Effects = Mapping[str, Mapping[int, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyPredictor:
    """`accuracy(config)` -> predicted top-1 as a fraction.

    Attributes:
        space: the name of the space whose configs it takes.
        source: what it was fitted to.
        uncertainty: the error to expect on a whole subnet, a fraction.
        base: resolution -> accuracy of the smallest subnet there.
        effects: resolution -> gene name (`mb4 depth`) -> choice -> gain over the smallest choice.
        saturation: the link's only parameter.
    """

    name: str
    space: str
    source: str
    uncertainty: float
    base: Mapping[int, float]
    effects: Mapping[int, _Effects]
    saturation: float
    genes: tuple[Gene, ...]
    raw: dict[str, Any]

    def __call__(self, config: SubnetConfig) -> float:
        """The predicted top-1 of a config of the space, a fraction."""
        return self.link(self.additive(config))

    def additive(self, config: SubnetConfig) -> float:
        """What plain addition of the smoothed effects predicts, before the link."""
        if config.resolution not in self.base or len(config.depth) * 4 + 3 != len(self.genes):
            raise SpaceError(
                f"config {config.to_dict()} is not of space {self.space!r}, which {self.name!r} is for"
            )
        effects = self.effects[config.resolution]
        total = self.base[config.resolution]
        for gene in self.genes[1:]:
            choice = get_gene(config, gene)
            if choice not in effects[gene.name]:
                raise SpaceError(
                    f"{gene.name} is {choice!r}; predictor {self.name!r} knows {sorted(effects[gene.name])}"
                )
            total += effects[gene.name][choice]
        return total

    def stage_effect(self, resolution: int, stage: str, choices: Mapping[str, int]) -> float:
        """The gain of a stage (`mb4`, `first_conv`, ...) over its smallest choices; `choices`: kind -> choice.

        For searches that add stages up: base + all stage effects = `additive`.
        """
        effects = self.effects[resolution]
        return sum(effects[f"{stage} {kind.replace('_', ' ')}"][choice] for kind, choice in choices.items())

    def link(self, total: float) -> float:
        """From an additive total to the prediction; strictly rising over all totals of the space."""
        gain = max(0.0, total - min(self.base.values()))
        return total - self.saturation * gain * gain


def predictor_names() -> list[str]:
    """The shipped predictors."""
    return sorted(path.stem for path in files.data("accuracy").glob("*.json"))


def load_accuracy(name: str | Path) -> AccuracyPredictor:
    """A shipped predictor by name, or one from a JSON file.

    Raises:
        NasvitEdgeError: unknown name, or a file that is damaged or does not fit its space.
    """
    path = Path(name)
    if path.suffix != ".json":
        path = files.data("accuracy", f"{name}.json")
        if not re.fullmatch(r"[\w-]+", str(name)) or not path.is_file():
            raise NasvitEdgeError(
                f"unknown accuracy predictor {str(name)!r}; there are {', '.join(predictor_names())}, or give a path to a .json file"
            )
    raw = files.read_json(path, "accuracy predictor", SCHEMA)
    try:
        return _parse(path.stem, raw)
    except NasvitEdgeError as error:
        raise NasvitEdgeError(f"accuracy predictor {str(path)!r}: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise NasvitEdgeError(
            f"accuracy predictor {str(path)!r} is damaged ({type(error).__name__}: {' '.join(str(error).split())[:120]}); fit it again"
        ) from None


def _parse(name: str, raw: dict[str, Any]) -> AccuracyPredictor:
    for key in ("space", "source"):
        if not isinstance(raw[key], str):
            raise ValueError(f"{key!r} is {raw[key]!r}")
    space = load_space(raw["space"])
    base = {int(r): _fraction(value, f"base {r}") for r, value in raw["base"].items()}
    if sorted(base) != sorted(space.resolutions):
        raise ValueError(f"base is for resolutions {sorted(base)}, not {list(space.resolutions)}")
    effects = {r: _effects(space, raw["effects"][str(r)]) for r in base}
    predictor = AccuracyPredictor(
        name=name,
        space=space.name,
        source=raw["source"],
        uncertainty=_fraction(raw["uncertainty"], "uncertainty"),
        base=base,
        effects=effects,
        saturation=_number(raw["saturation"], "saturation"),
        genes=space.genes,
        raw=raw,
    )
    _check_link(predictor)
    return predictor


def _effects(space: SearchSpace, table: dict[str, Any]) -> _Effects:
    """Gene name -> choice -> gain; every choice of the space, from 0 upwards and never falling."""
    effects = {}
    for gene in space.genes[1:]:
        gains = [_number(table[gene.name][str(choice)], gene.name) for choice in gene.choices]
        if gains[0] != 0 or list(gains) != sorted(gains):
            raise ValueError(f"effects of {gene.name!r} are {gains}; they must start at 0 and never fall")
        effects[gene.name] = dict(zip(gene.choices, gains, strict=True))
    return effects


def _check_link(predictor: AccuracyPredictor) -> None:
    """The link must rise over every total that the space can reach, and stay a fraction."""
    highest = max(
        predictor.base[r] + sum(max(gains.values()) for gains in predictor.effects[r].values())
        for r in predictor.base
    )
    gain = highest - min(predictor.base.values())
    if 2 * predictor.saturation * gain >= 1 or not 0 < predictor.link(highest) < 1:
        raise ValueError(f"'saturation' is {predictor.saturation!r}: the link would fall")


def _fraction(value: Any, what: str) -> float:
    if not 0 < _number(value, what) < 1:
        raise ValueError(f"{what!r} is {value!r}, not a fraction")
    return float(value)


def _number(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise ValueError(f"{what!r} is {value!r}")
    return float(value)
