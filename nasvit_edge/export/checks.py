"""What a verification found, and what of it is out of its limits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from msgspec.structs import asdict, replace

from nasvit_edge.export import dense
from nasvit_edge.export.arithmetic import Arithmetic
from nasvit_edge.export.formats import Threshold
from nasvit_edge.export.reproduction import Reproduction
from nasvit_edge.export.sidecar import Checked, Scenes
from nasvit_edge.paired import Interval

GATE_ALPHA = 0.05  # chance of failing a file whose top-1 is lower by just what is allowed
_LISTED = 4  # layers
_FIGURES = ("error", "snr_db", "agreement", "top1_drop", "top1", "images", "inputs", "real_images")


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """The outcome of one verification; figures are None where not measured.

    Attributes:
        error: of logits, on all inputs.
        snr_db: of logits, on the real images where the space has some.
        top1_change: of the file less the supernet's, with the interval of `compare_hits` at `GATE_ALPHA`.
        pixels: the share of a segmenter's pixels that have the supernet's label, of `pixel_count`.
        scenes: on labelled scenes (`scene_checks.compared`).
        arithmetic: of a file that claims 8 bits, what of it is; None of another.
        reproduction: against the file's own outputs at export; None at export.
    """

    error: float | None
    snr_db: float | None
    threshold: Threshold
    inputs: int
    real_images: int
    reference: str  # "supernet" where it was recomputed, "stored" where the weights are not here
    agreement: float | None = None
    top1_change: Interval | None = None
    top1: float | None = None
    images: int = 0
    pixels: float | None = None
    pixel_count: int = 0
    scenes: Scenes | None = None
    arithmetic: Arithmetic | None = None
    reproduction: Reproduction | None = None

    @property
    def passed(self) -> bool:
        return not self.failures()

    @property
    def top1_drop(self) -> float | None:
        """How much lower top-1 is than the supernet's."""
        return None if self.top1_change is None else -self.top1_change.value

    def failures(self) -> list[str]:
        """What is out of its limits, and by how much."""
        limit, faults = self.threshold, list[str]()
        if limit.error is not None and self.error is not None and not self.error <= limit.error:
            faults.append(f"off by {self.error:.2g} of the logits' spread (allowed {limit.error:.0e})")
        if limit.snr_db is not None and self.snr_db is not None and not self.snr_db >= limit.snr_db:
            faults.append(f"signal-to-noise ratio {self.snr_db:.1f} dB (at least {limit.snr_db:g})")
        if limit.agreement is not None and self.agreement is not None and self.agreement < limit.agreement:
            faults.append(
                f"agrees with the supernet on {self.agreement:.2%} of {self.images} images (at least {limit.agreement:.0%})"
            )
        faults += self._top1_failures() + self._pixel_failures() + self.float_failures()
        return faults + (self.reproduction.failures() if self.reproduction else [])

    def doubts(self) -> list[str]:
        """Failures, and a top-1 that was lower by more than is allowed, though the images are too few to be sure."""
        doubts, limit, drop = self.failures(), self.threshold.top1_drop, self.top1_drop
        if limit is not None and drop is not None and drop > limit and not self._top1_failures():
            doubts.append(
                f"top-1 is {drop * 100:.2f} points lower (at most {limit * 100:g}), which {self.images} images do not settle"
            )
        return doubts

    def float_failures(self) -> list[str]:
        """What makes an int8 file none: the layers that are in floating point."""
        limit, counts = self.threshold.int8_macs, self.arithmetic
        if limit is None or counts is None or counts.int8_layer_macs >= limit:
            return []
        names = [layer.name for layer in sorted(counts.float_layers, key=lambda layer: -layer.macs)]
        more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
        return [
            f"{counts.int8_layer_macs:.1%} of the MACs of its layers are in int8 (at least {limit:.0%}): {len(names)} of "
            f"{len(counts.weighted)} layers are in floating point ({', '.join(names[:_LISTED])}{more})"
        ]

    def inexact(self) -> list[str]:
        """What of the doubts keeping more in floating point can mend."""
        return [doubt for doubt in self.doubts() if doubt not in self.float_failures()]

    def _top1_failures(self) -> list[str]:
        """Top-1 fails where even the near end of the interval of its loss is beyond the limit."""
        limit, change = self.threshold.top1_drop, self.top1_change
        if limit is None or change is None or -change.high <= limit:
            return []
        low, high = -change.high * 100, -change.low * 100
        return [
            f"top-1 is {-change.value * 100:.2f} points lower on {self.images} images, {low:.2f} to {high:.2f} "
            f"by the images that changed (at most {limit * 100:g})"
        ]

    def _pixel_failures(self) -> list[str]:
        limit, faults = self.threshold, []
        if limit.pixels is not None and self.pixels is not None and not self.pixels >= limit.pixels:
            faults.append(
                f"has the supernet's label at {self.pixels:.2%} of {self.pixel_count} pixels (at least {limit.pixels:.2%})"
            )
        drop = self.scenes.mean_iou_drop if self.scenes else None
        if limit.top1_drop is not None and drop is not None and drop > limit.top1_drop:
            faults.append(f"mean IoU is {drop * 100:.2f} points lower (at most {limit.top1_drop * 100:g})")
        return faults

    def record(self) -> Checked:
        """As a file has it."""
        change, limits = self.top1_change, asdict(self.threshold)
        if self.pixels is None:
            del limits["pixels"]
        record = Checked(
            passed=self.passed,
            reference=self.reference,
            **{name: _finite(getattr(self, name)) for name in _FIGURES},
            top1_drop_interval=None if change is None else (-change.high, -change.low),
            arithmetic=None if self.arithmetic is None else self.arithmetic.record(),
            reproduction=None if self.reproduction is None else self.reproduction.record(_finite),
            doubts=tuple(self.doubts()),
            allowed=limits,
        )
        if self.pixels is None:  # a classifier
            return record
        return replace(
            record,
            pixels=self.pixels,
            pixel_count=self.pixel_count,
            scenes=self.scenes,
            output=dense.LABELS if self.error is None else dense.LOGITS,
        )


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return 1e9 if value > 0 else -1e9
    return value
