"""A predictor for a dense space from one of a classifier's with the same stages: it ranks backbones until mean IoU is measured."""

from __future__ import annotations

from collections.abc import Mapping

from nasvit_edge.errors import NasvitEdgeError, SpaceError
from nasvit_edge.searching.accuracy import AccuracyPredictor, PredictorFile
from nasvit_edge.searching.evaluation import LAST
from nasvit_edge.space import Gene, SearchSpace

QUALITY = "top-1 proxy"


def proxy(space: SearchSpace, of: AccuracyPredictor, resolution: int = 224) -> PredictorFile:
    """A predictor's file: what `of` says of the same stages at `resolution`, for every resolution of `space`.

    No number is fitted: bases and effects are copied, so larger images bring nothing, and a search compares subnets
    of one resolution only. The head of `of` stays smallest.

    Raises:
        NasvitEdgeError: `of` is for another resolution, or for stages without a choice that `space` has.
    """
    if resolution not in of.base:
        known = ", ".join(map(str, of.base))
        raise NasvitEdgeError(f"predictor {of.name!r} is for resolutions {known}, not {resolution}")
    effects = {gene.name: _gains(gene, of.effects[resolution], of) for gene in space.genes[1:]}
    return PredictorFile(
        schema=1,
        kind="accuracy predictor",
        space=space.name,
        source=f"proxy: top-1 of the same stages at {resolution} by predictor {of.name} ({of.source})",
        quality=QUALITY,
        unit="fractions",
        base=dict.fromkeys(map(str, space.resolutions), of.base[resolution]),
        effects=dict.fromkeys(map(str, space.resolutions), effects),
        saturation=of.saturation,
        uncertainty=of.uncertainty,
    )


def _gains(gene: Gene, known: Mapping[str, Mapping[int, float]], of: AccuracyPredictor) -> dict[str, float]:
    """Choice -> gain over the smallest choice of the dense space."""
    if gene.name == f"{LAST} width":  # the decoder's
        return {str(choice): 0.0 for choice in gene.choices}
    lost = [choice for choice in gene.choices if choice not in known.get(gene.name, {})]
    if lost:
        raise SpaceError(f"predictor {of.name!r} knows no {gene.name} {lost[0]!r}; its stages are other ones")
    values = known[gene.name]
    return {str(choice): values[choice] - values[gene.choices[0]] for choice in gene.choices}
