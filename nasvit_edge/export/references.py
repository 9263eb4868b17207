"""What an artifact is compared with: the elastic supernet's answers, recomputed or stored beside the file with its own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from nasvit_edge import data_sets, files
from nasvit_edge.errors import VerifyError
from nasvit_edge.export import dense, parity
from nasvit_edge.export.arithmetic import Arithmetic
from nasvit_edge.export.artifact import Artifact, beside, reference_path
from nasvit_edge.export.checks import GATE_ALPHA, Check
from nasvit_edge.export.formats import Threshold
from nasvit_edge.export.reproduction import Outputs
from nasvit_edge.paired import compare_hits
from nasvit_edge.space import SearchSpace, SubnetConfig

if TYPE_CHECKING:
    from torch import Tensor

    from nasvit_edge.model.supernet import Supernet

_Array = np.ndarray[Any, np.dtype[np.float32]]
_Choices = np.ndarray[Any, np.dtype[np.int64]]
_Run = Callable[[_Array], _Array]


@dataclass(frozen=True, slots=True)
class Reference:
    """Inputs (n, 3, H, W), the supernet's logits of them, and its top-1 classes of the bundled test images.

    `output` says what a segmenter gives; it is empty for a classifier.
    """

    inputs: _Array
    real_images: int
    logits: _Array
    choices: _Choices | None
    output: str = ""

    def check(
        self, run: _Run, space: SearchSpace, threshold: Threshold, kind: str, arithmetic: Arithmetic | None
    ) -> tuple[Check, Outputs]:
        """Run a file on everything; the outcome, and what the file gave."""
        outputs, classes = run(self.inputs), None
        labels_only = self.output == dense.LABELS
        check = Check(
            error=None if labels_only else parity.relative_error(outputs, self.logits),
            snr_db=None if labels_only else parity.snr_db(outputs, self.logits, self.real_images),
            threshold=threshold,
            inputs=len(self.inputs),
            real_images=self.real_images,
            reference=kind,
            arithmetic=arithmetic,
        )
        if self.output:
            check = self._with_pixels(check, outputs)
        if self.choices is not None and (threshold.agreement is not None or threshold.top1_drop is not None):
            images = data_sets.bundled("test", space)
            classes = parity.choices(run, images, space, self.inputs.shape[-2])
            check = _with_images(check, classes, self.choices, images.labels.numpy())
        return check, Outputs(outputs, classes)

    def _with_pixels(self, check: Check, outputs: _Array) -> Check:
        """How many pixels have the supernet's label."""
        size = (self.inputs.shape[-2], self.inputs.shape[-1])
        labels: np.ndarray[Any, Any] = outputs
        if self.output == dense.LOGITS:
            whole = outputs.shape == self.logits.shape and np.isfinite(outputs).all()
            labels = dense.labels_of(outputs, size) if whole else np.empty(0, np.int32)
        count = len(self.inputs) * size[0] * size[1]
        return replace(check, pixels=dense.agreement(labels, self.logits, size), pixel_count=count)


def _with_images(check: Check, classes: _Choices, expected: _Choices, labels: _Choices) -> Check:
    change, _, _ = compare_hits(expected == labels, classes == labels, GATE_ALPHA)
    return replace(
        check,
        agreement=float((classes == expected).mean()),
        top1_change=change,
        top1=float((classes == labels).mean()),
        images=len(labels),
    )


def reference(
    supernet: Supernet,
    space: SearchSpace,
    config: SubnetConfig,
    statistics: Mapping[str, Tensor],
    *,
    images: bool,
    output: str = "",
) -> Reference:
    """What the elastic supernet says, with a subnet's statistics; `images`: on the bundled test images too."""
    inputs, real = parity.inputs(space, config.resolution)
    logits = parity.reference(supernet, config, statistics, inputs)
    chosen = None
    if images and data_sets.has_bundled(space):
        chosen = parity.choices(
            lambda x: parity.reference(supernet, config, statistics, x),
            data_sets.bundled("test", space),
            space,
            config.resolution,
        )
    return Reference(inputs, real, logits, chosen, output)


@dataclass(frozen=True, slots=True)
class StoredReference:
    """What stands beside an artifact: batch-norm statistics, the supernet's answers, and the file's own."""

    statistics: Mapping[str, Tensor]
    reference: Reference
    own: Outputs

    def to_bytes(self) -> bytes:
        """As safetensors."""
        import torch
        from safetensors.torch import save

        tensors: dict[str, np.ndarray[Any, Any] | None] = {
            "logits": self.reference.logits,
            _own_name(self.reference.output): self.own.outputs,
            "choices": self.reference.choices,
            "own_choices": self.own.choices,
            "own_plain": self.own.plain,
        }
        arrays = {n: torch.from_numpy(np.ascontiguousarray(v)) for n, v in tensors.items() if v is not None}
        return bytes(save(dict(self.statistics) | arrays))


def read_stored(artifact: Artifact, space: SearchSpace, config: SubnetConfig) -> StoredReference:
    """What was stored when the artifact was exported.

    Raises:
        VerifyError: it is damaged, or of another export.
        NasvitEdgeError: it is missing.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    path = reference_path(artifact.path)
    beside(path, "reference", "the answers that the file was checked against")
    content = files.read_bytes(path, "reference")
    expected_sha256 = None if artifact.sidecar is None else artifact.sidecar.reference_sha256
    if hashlib.sha256(content).hexdigest() != expected_sha256:
        raise VerifyError(f"reference {str(path)!r} is not the one that was exported; export again")
    inputs, real = parity.inputs(space, config.resolution)
    output = artifact.output(space)
    try:
        tensors = load(content)
        logits, runtime_logits = (tensors.pop(name).numpy() for name in ("logits", _own_name(output)))
        chosen, own_chosen, plain = (
            tensors.pop(name).numpy() if name in tensors else None
            for name in ("choices", "own_choices", "own_plain")
        )
    except (SafetensorError, KeyError, ValueError) as error:
        raise VerifyError(f"reference {str(path)!r} is damaged: {error}") from None
    return StoredReference(
        tensors, Reference(inputs, real, logits, chosen, output), Outputs(runtime_logits, own_chosen, plain)
    )


def _own_name(output: str) -> str:
    """What a file's own output is called in its reference."""
    return "own_labels" if output == dense.LABELS else "own_logits"
