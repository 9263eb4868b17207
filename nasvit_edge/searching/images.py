"""The accuracy of subnets, measured on images after batch-norm calibration."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nasvit_edge.data_sets import ImageSet
from nasvit_edge.space import SubnetConfig

if TYPE_CHECKING:
    from nasvit_edge.model.supernet import Supernet


@dataclass(slots=True)
class ImageAccuracy:
    """`accuracy(config)` -> the share of `validation` images that the calibrated subnet gets right.

    Every subnet is materialised and calibrated by itself, so no statistics leak from one to another.
    Results are kept: asking again costs nothing.
    """

    supernet: Supernet
    calibration: ImageSet
    validation: ImageSet
    measured: dict[SubnetConfig, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"measured on {self.validation.name}"

    @property
    def uncertainty(self) -> float:
        """One standard error of a share of about 0.9 on this many images."""
        return float((0.9 * 0.1 / len(self.validation)) ** 0.5)

    def __call__(self, config: SubnetConfig) -> float:
        from nasvit_edge.model.evaluate import subnet_accuracy

        if config not in self.measured:
            self.measured[config] = subnet_accuracy(self.supernet, config, self.calibration, self.validation)
        return self.measured[config]
