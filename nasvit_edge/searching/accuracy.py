"""Accuracy predictors: fitted coefficients of a trained supernet, additive over stages.

    total    = base[resolution] + sum over stages and genes of effect[resolution][stage][gene][choice]
    accuracy = link(total) = total - saturation * max(0, total - base of the smallest)^2

All effects rise with the choice (of segmenters not the base with the resolution), and the link rises with the total,
so enlarging one gene never predicts less, and a search may add stages up and compare totals.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nasvit_edge import files
from nasvit_edge.errors import NasvitEdgeError, SpaceError
from nasvit_edge.hints import DATA, WEIGHTS, command
from nasvit_edge.space import Gene, SearchSpace, SubnetConfig, get_gene, is_shipped, known_space

SCHEMA = 1
_Effects = Mapping[str, Mapping[int, float]]


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
        raw: the whole file, with its `validation`.
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
    raw: dict[str, Any]
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
            if type(choice) is not int or choice not in gene.choices:
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
    raw = files.read_json(path, "accuracy predictor", SCHEMA)
    if space is not None and space.name == raw.get("space") and _of_another(path, raw, space):
        raise NasvitEdgeError(
            f"accuracy predictor {str(path)!r} is for another space that is called {space.name!r}, too; fit one for this: "
            + command("accuracy", "fit", space=space.given, supernet=WEIGHTS, data=DATA, out="own.json")
        )
    try:
        return parsed(path.stem, raw, space)
    except NasvitEdgeError as error:
        raise NasvitEdgeError(f"accuracy predictor {str(path)!r}: {error}") from None
    except KeyError as error:
        raise NasvitEdgeError(f"accuracy predictor {str(path)!r} has no {error}; fit it again") from None
    except (TypeError, ValueError, AttributeError, OverflowError, OSError) as error:
        raise NasvitEdgeError(
            f"accuracy predictor {str(path)!r} is damaged ({' '.join(str(error).split())[:160]}); fit it again"
        ) from None


def _of_another(path: Path, raw: Mapping[str, Any], space: SearchSpace) -> bool:
    """Whether a predictor of a space's name is of other content; what does not say its space's digest is of a shipped one."""
    told = raw.get("space_digest")
    if told is not None:
        return bool(told != space.digest())
    return path == files.data("accuracy", f"{space.name}.json") and not is_shipped(space)


def parsed(name: str, raw: dict[str, Any], space: SearchSpace | None = None) -> AccuracyPredictor:
    """A predictor from the content of its file."""
    for key in ("space", "source", "unit"):
        if not isinstance(raw[key], str) or not raw[key].isprintable():
            raise ValueError(f"{key!r} is {raw[key]!r}, not one line of text")
    if raw["unit"] != "fractions":
        raise ValueError(f"'unit' is {raw['unit']!r}; it must be 'fractions'")
    if space is None or space.name != raw["space"]:
        space = known_space(raw["space"])
    quality = raw.get("quality", quality_of(space))
    if not isinstance(quality, str) or re.fullmatch(r"[\w -]{1,40}", quality) is None:
        raise ValueError(f"'quality' is {quality!r}, not a word or two like 'mean IoU'")
    resolutions = [str(r) for r in space.resolutions]
    for key in ("base", "effects"):
        _same_keys(raw[key], resolutions, key)
    base = {int(r): _fraction(raw["base"][r], f"base {r}") for r in resolutions}
    effects = {int(r): _effects(space, raw["effects"][r], f"effects {r}") for r in resolutions}
    predictor = AccuracyPredictor(
        name=name,
        space=space.name,
        source=raw["source"],
        uncertainty=_fraction(raw["uncertainty"], "uncertainty"),
        base=base,
        effects=effects,
        saturation=files.number(raw["saturation"], "saturation"),
        genes=space.genes,
        lengths=Counter(gene.kind for gene in space.genes[1:]),
        raw=raw,
        quality=quality,
        weights_sha256=_weights(raw),
        weights_key=_weights_key(raw),
    )
    _check_link(predictor)
    return predictor


def _weights(raw: dict[str, Any]) -> str | None:
    found = raw.get("weights_sha256")
    if found is None:
        return None
    if not isinstance(found, str) or re.fullmatch("[0-9a-f]{64}", found) is None:
        raise ValueError(f"'weights_sha256' is {found!r}, not 64 hex digits")
    return found


def _weights_key(raw: dict[str, Any]) -> str | None:
    found = raw.get("weights_key")
    if found is not None and not isinstance(found, str):
        raise ValueError(f"'weights_key' is {found!r}, no text")
    return found


def _effects(space: SearchSpace, table: dict[str, Any], where: str) -> _Effects:
    """Gene name -> choice -> gain; every choice of the space, from 0 upwards and never falling."""
    _same_keys(table, [gene.name for gene in space.genes[1:]], where)
    effects = {}
    for gene in space.genes[1:]:
        what = f"{where} {gene.name}"
        _same_keys(table[gene.name], [str(choice) for choice in gene.choices], what)
        gains = [files.number(table[gene.name][str(choice)], what) for choice in gene.choices]
        if gains[0] != 0 or gains != sorted(gains):
            raise ValueError(f"{what!r} is {gains}; gains must start at 0 and never fall")
        effects[gene.name] = dict(zip(gene.choices, gains, strict=True))
    return effects


def _same_keys(table: Any, expected: list[str], where: str) -> None:
    """`table` must be an object with exactly the `expected` keys."""
    if not isinstance(table, dict):
        raise ValueError(f"{where!r} is {table!r}, not an object")
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


def _fraction(value: Any, what: str) -> float:
    if not 0 < files.number(value, what) < 1:
        raise ValueError(f"{what!r} is {value!r}, not a fraction")
    return float(value)
