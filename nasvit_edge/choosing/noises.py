"""What precisions below fp32 do to a supernet's answers, stage by stage, measured on real files and images.

Of a few subnets each stage alone is put into each precision, the file is run, and what it adds to the logits is noise. What a noise costs
of the accuracy comes from the exact logits: noise of that size is added to them, and the images that change are counted.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from msgspec import Meta

from nasvit_edge import cache, digests, records
from nasvit_edge.data_sets import Images, calibration_images
from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.export import advice
from nasvit_edge.export.artifact import versions
from nasvit_edge.export.formats import Conversion, Format
from nasvit_edge.export.quiet import muted, quiet
from nasvit_edge.genes import SubnetConfig
from nasvit_edge.latency.names import MIXED
from nasvit_edge.listening import Listener
from nasvit_edge.profile.models import composition_subnets
from nasvit_edge.records import Amount, Record
from nasvit_edge.searching.images import ImageAccuracy
from nasvit_edge.space import SearchSpace

if TYPE_CHECKING:
    from nasvit_edge.model.subnet import Subnet

SUBNETS = 3  # smallest, largest, and one between
IMAGES = 1000  # whose logits are compared, and whose labels are counted
_BATCH = 50
_DRAWS = 20  # of noise
_LEVELS = np.geomspace(1e-5, 1.0, 26)
_Array = np.ndarray[Any, np.dtype[np.float32]]
_Loss = Annotated[tuple[Amount, ...], Meta(min_length=2, max_length=2)]


class SubnetNoise(Record, frozen=True, kw_only=True):
    """One subnet: the noise of each stage in each precision alone, and of all stages together in each."""

    config: SubnetConfig
    stages: dict[str, dict[str, Amount]]
    together: dict[str, Amount]


class Noises(Record, frozen=True, kw_only=True):
    """What was measured.

    Attributes:
        images: which, and how many of them.
        losses: pairs of a noise and what it costs of the accuracy (fractions), rising; the mean over the subnets.
    """

    images: str
    subnets: tuple[SubnetNoise, ...]
    losses: tuple[_Loss, ...]

    def by_stage(self) -> dict[str, dict[str, float]]:
        """Stage -> precision -> the mean over the subnets."""
        first = self.subnets[0].stages
        return {
            stage: {p: float(np.mean([one.stages[stage][p] for one in self.subnets])) for p in noises}
            for stage, noises in first.items()
        }

    def additive(self) -> float:
        """What all stages in one precision add together, over the sum of what each adds alone; the mean over subnets and precisions."""
        ratios = [
            one.together[p] / total
            for one in self.subnets
            for p in one.together
            if (total := sum(noises[p] for noises in one.stages.values())) > 0
        ]
        return float(np.mean(ratios)) if ratios else 1.0


def noises(source: ImageAccuracy, weights: str, data: str, form: Format, listener: Listener) -> Noises:
    """Measure, or take from the cache what was measured of the same weights, images and code; ranges are of `data`, as `export` takes them.

    Raises:
        NasvitEdgeError: the format has one precision a file; or a space of scenes.
    """
    if form.mixed is None:
        raise NasvitEdgeError(f"a {form.name} file has one precision for all its stages")
    images = source.validation
    if not isinstance(images, Images):
        raise NasvitEdgeError(
            "--precision mixed is for classifiers; segmenters are searched in one precision"
        )
    space = source.supernet.space
    ranges = calibration_images(data, space, advice.RANGE_IMAGES)
    assert isinstance(ranges, Images)  # as the others
    path = _kept_at(source, weights, ranges, form)
    if path.exists():
        try:
            return records.read(Noises, path, "cache")
        except NasvitEdgeError:
            path.unlink()
    measuring = _Measuring(source, form, listener, images.take(images.name, slice(0, IMAGES)), ranges)
    measured = measuring.all()
    with contextlib.suppress(OSError, NasvitEdgeError):  # a cache that cannot be written to is no error
        records.write(path, measured)
    return measured


def _kept_at(source: ImageAccuracy, weights: str, ranges: Images, form: Format) -> Path:
    space = source.supernet.space
    parts = {
        "space": repr(space),
        "ranges": ranges.digest(),
        "calibration": source.calibration.key(),
        "images": source.validation.digest(),
        "format": records.content(form),
        "versions": versions(),
    }
    return cache.root() / "noise" / f"{space.name}-{digests.key_of(weights, parts)}.json"


@dataclass(slots=True)
class _Measuring:
    """Subnets in ever other precisions, on the same images."""

    source: ImageAccuracy
    form: Format
    listener: Listener
    images: Images
    ranges: Images
    losses: list[Any] = field(default_factory=list)

    @property
    def space(self) -> SearchSpace:
        return self.source.supernet.space

    def all(self) -> Noises:
        """Of all subnets."""
        configs = [self.space.smallest(), self.space.largest(), *composition_subnets(self.space, 9, 0)[2:]]
        chosen = list(dict.fromkeys(configs))[:SUBNETS]
        measured = [self._subnet(config, i, len(chosen)) for i, config in enumerate(chosen)]
        lost = np.maximum.accumulate(np.maximum(0.0, np.mean(self.losses, 0)))
        pairs = [(0.0, 0.0), *zip(_LEVELS.tolist(), lost.tolist(), strict=True)]
        return Noises(
            images=f"{len(self.images)} images of {self.images.name}",
            subnets=tuple(measured),
            losses=tuple(pairs),
        )

    def _subnet(self, config: SubnetConfig, number: int, count: int) -> SubnetNoise:
        from nasvit_edge.model.accuracy import calibrated
        from nasvit_edge.model.subnet import materialise

        subnet = calibrated(materialise(self.source.supernet, config), self.source.calibration)
        batches = list(self.images.batches(self.space, config.resolution, _BATCH))
        pixels = np.concatenate([x.numpy() for x, _ in batches])
        labels = np.concatenate([y.numpy() for _, y in batches])
        files_of = _Files(self.space, self.form, subnet, self._ranges(config))
        assert self.form.mixed is not None
        exact, *others = self.form.mixed.of
        logits = files_of.logits({}, pixels)
        self.losses.append(losses(logits, labels))
        stages = list(dict.fromkeys(op.stage for op in subnet.ops))
        noises: dict[str, dict[str, float]] = {stage: {exact: 0.0} for stage in stages}
        together: dict[str, float] = {}
        total, done = len(others) * (len(stages) + 1), 0
        for precision in others:
            for stage in stages:
                noises[stage][precision] = noise(files_of.logits({stage: precision}, pixels), logits)
                done += 1
                self.listener.progress(
                    number * total + done, count * total, f"noise of {stage} in {precision}"
                )
            together[precision] = noise(files_of.logits(dict.fromkeys(stages, precision), pixels), logits)
            done += 1
        return SubnetNoise(config=config, stages=noises, together=together)

    def _ranges(self, config: SubnetConfig) -> _Array:
        """Images that the ranges of activations are taken from."""
        batches = self.ranges.batches(self.space, config.resolution, _BATCH)
        return np.concatenate([x.numpy() for x, _ in batches])


class _Files:
    """Files of one subnet in different precisions, made of the same one in floating point."""

    def __init__(self, space: SearchSpace, form: Format, subnet: Subnet, ranges: _Array) -> None:
        from nasvit_edge.model.subnet import fold_for

        self.form, self.ops, self.code = form, subnet.ops, form.per_stage()
        shape = (_BATCH, 3, *subnet.size)
        # its nodes have the names by which ops are told apart
        self.recipe = Conversion(precision=MIXED, calibration=ranges, labels=tuple(space.label_names()))
        everything = {op.name: "fp32" for op in self.ops}
        exact = replace(self.recipe, precision="fp32", mixed=everything)
        with quiet():
            self.model = self.code.convert(fold_for(subnet, form.runtime), shape, exact)

    def logits(self, stages: dict[str, str], pixels: _Array) -> _Array:
        """Of a file whose stages have these precisions; the others are exact."""
        mixed = {op.name: stages.get(op.stage, "fp32") for op in self.ops}
        content = self.model
        if any(precision != "fp32" for precision in mixed.values()):
            with quiet(), muted():
                content = self.code.at_precision(self.model, _BATCH, replace(self.recipe, mixed=mixed))
        with tempfile.TemporaryDirectory(prefix="nasvit-edge-") as folder:
            path = Path(folder, f"model{self.form.suffix}")
            path.write_bytes(content)
            return self.code.runner(path)(pixels)


def noise(logits: _Array, exact: _Array) -> float:
    """The mean square of what was added, over the variance of the exact ones."""
    return float(np.mean((logits - exact) ** 2, dtype=np.float64) / np.var(exact, dtype=np.float64))


def losses(logits: _Array, labels: Any) -> Sequence[float]:
    """What normal noise of each level costs of the accuracy, a fraction: the mean of some draws."""
    rng, spread = np.random.default_rng(0), float(np.std(logits))
    right = float((logits.argmax(1) == labels).mean())
    draws = [rng.normal(0, spread, logits.shape) for _ in range(_DRAWS)]
    return [
        right - float(np.mean([((logits + np.sqrt(level) * d).argmax(1) == labels).mean() for d in draws]))
        for level in _LEVELS
    ]
