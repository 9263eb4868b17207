"""Does a file still give what it gave when it was exported?

With the processor and the versions of the export, outputs come back to a rounding. Elsewhere 8 and 16 bits are rounded in other ways,
and sums may saturate: what the file gives is then judged by signal-to-noise ratio and agreement, which damage of 1 % would
pass. That is found by what the file gives plainly (`plain_runner` of its format), which hardly depends on the processor.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from nasvit_edge.export import parity
from nasvit_edge.export.formats import Threshold
from nasvit_edge.export.sidecar import Reproduced

SAME_MACHINE = (
    1e-5  # of the logits' spread: what a file may change between two runs of one runtime on one processor
)
SATURATES = (
    "sums of 8-bit products saturate on this processor, which has no VNNI: "
    "ONNX Runtime's session option session.x64quantprecision = 1 gives the exact ones"
)
PLAIN_INPUTS = 4  # LiteRT's reference kernels are slow
_Array = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True, slots=True)
class Outputs:
    """What a file gives.

    Attributes:
        outputs: logits, or a segmenter's labels, of all inputs.
        choices: its top-1 classes of the bundled test images; None where there are none.
        plain: `outputs` of the first `PLAIN_INPUTS` inputs, computed plainly; None where the precision needs no such care.
    """

    outputs: _Array
    choices: np.ndarray[Any, np.dtype[np.int64]] | None = None
    plain: _Array | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reproduction:
    """How far outputs are from those at export; figures are None where not measured.

    Attributes:
        same_machine: the processor and all versions are those of the export.
        change: the largest of a logit, over the logits' spread; of labels the share that changed.
        agreement: the share of `images` (of labels, of pixels) with the class they had.
        plain_change: of what is computed plainly: the median input's, over the spread; of labels the share that changed.
        saturates: sums of 8-bit products do on this processor.
    """

    same_machine: bool
    threshold: Threshold
    labels: bool
    change: float
    snr_db: float | None = None
    agreement: float | None = None
    images: int = 0
    plain_change: float | None = None
    saturates: bool = False

    def failures(self) -> list[str]:
        """What is out of its limits, and by how much."""
        if self.same_machine or self.threshold.reproduction_db is None:
            limit = SAME_MACHINE if self.same_machine else _elsewhere(self.threshold)
            return [] if self.change <= limit else [f"{self._changed()} (allowed {limit:.0e})"]
        return self._coarse_failures() + self._plain_failures()

    def _changed(self) -> str:
        if self.labels:
            return f"gives other labels than when it was exported, at {self.change:.2g} of the pixels"
        return f"gives other logits than when it was exported, by {self.change:.2g} of their spread"

    def _coarse_failures(self) -> list[str]:
        limit, faults = self.threshold, []
        lowest = limit.reproduction_db
        if lowest is not None and self.snr_db is not None and not self.snr_db >= lowest:
            faults.append(
                f"signal-to-noise ratio {self.snr_db:.1f} dB to its logits at export (at least {lowest:g})"
            )
        least = limit.pixels if self.labels else limit.reproduction_agreement
        if least is not None and self.agreement is not None and self.agreement < least:
            what = "the pixels" if self.labels else f"{self.images} images"
            faults.append(
                f"has the class it had at export on {self.agreement:.2%} of {what} (at least {least:.0%})"
            )
        if faults and self.saturates:
            faults.append(SATURATES)
        return faults

    def _plain_failures(self) -> list[str]:
        limit = self.threshold.reproduction
        if self.plain_change is None or self.plain_change <= limit:
            return []
        return [
            f"its weights are not those that were exported: without rounding it is {self.plain_change:.2g} off (allowed {limit:.0e})"
        ]

    def record(self, number: Callable[[Any], Any]) -> Reproduced:
        """As a file has it; `number` makes a figure one that JSON can hold."""
        return Reproduced(**{name: number(getattr(self, name)) for name in Reproduced.__struct_fields__})


def _elsewhere(threshold: Threshold) -> float:
    return max(threshold.reproduction, threshold.error or 0)


def needs_care(threshold: Threshold) -> bool:
    """Whether a precision is computed in another way on another processor."""
    return threshold.reproduction_db is not None


def compared(
    now: Outputs, before: Outputs, threshold: Threshold, *, same_machine: bool, labels: bool, real: int = 0
) -> Reproduction:
    """`now` against `before`; `real` of the inputs are images, and `labels` says that outputs are labels of pixels."""
    both = now.plain is not None and before.plain is not None
    plain = _plain_change(now.plain, before.plain, labels) if both else None
    reproduced = functools.partial(
        Reproduction, same_machine=same_machine, threshold=threshold, labels=labels, plain_change=plain
    )
    if labels:
        moved = _moved(now.outputs, before.outputs)
        return reproduced(change=moved, agreement=1 - moved)
    agreement = None
    if now.choices is not None and before.choices is not None:
        agreement = 1 - _moved(now.choices, before.choices)
    return reproduced(
        change=parity.relative_error(now.outputs, before.outputs),
        snr_db=parity.snr_db(now.outputs, before.outputs, real),
        agreement=agreement,
        images=0 if now.choices is None else len(now.choices),
    )


def _plain_change(now: Any, before: Any, labels: bool) -> float:
    return _moved(now, before) if labels else parity.typical_error(now, before)


def _moved(labels: np.ndarray[Any, Any], before: np.ndarray[Any, Any]) -> float:
    """The share of classes that are others than before."""
    return float((labels != before).mean()) if labels.shape == before.shape else 1.0
