"""A classifier from an ONNX file as a teacher: ONNX Runtime gives its logits, and a teacher needs no gradients.

B images, S their side. A model file is data: it can name other files, of which only those beside it are opened.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nasvit_edge import files
from nasvit_edge.errors import CheckpointError, require
from nasvit_edge.export.onnx_external import external_files

_KINDS = {"tensor(float)": torch.float32, "tensor(float16)": torch.float16}
_LEAST = 1e-12  # of a probability


class OnnxClassifier(nn.Module):
    """Images (B, 3, S, S) to logits (B, classes), on the CPU.

    Attributes:
        size: the side that it takes, where it is fixed.
        preparation: what the file says of it, as our exports do: `mean` and `std`, and `labels`.

    Raises:
        CheckpointError: it is no whole ONNX file, or takes something else than images; it names files elsewhere.
        MissingExtraError: onnx or onnxruntime is not installed.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        proto = _read(path)
        self.facts = {entry.key: entry.value for entry in proto.metadata_props}
        self.is_softmax = any(
            node.op_type == "Softmax" and set(node.output) & {proto.graph.output[0].name}
            for node in proto.graph.node
        )
        self.session = _session(path)
        self.image = _input(path, self.session)
        self.batch, _, height, width = self.image.shape
        self.size = height if isinstance(height, int) and height == width else None

    def forward(self, images: Tensor) -> Tensor:
        """As many at once as the file takes; the logarithm where it ends in a softmax."""
        step = self.batch if isinstance(self.batch, int) else max(1, len(images))
        outputs = torch.cat(
            [self._some(images[start : start + step], step) for start in range(0, len(images), step)]
        )
        return (outputs.clamp_min(_LEAST).log() if self.is_softmax else outputs).to(images.device)

    def _some(self, images: Tensor, step: int) -> Tensor:
        short = step - len(images) if isinstance(self.batch, int) else 0
        padded = torch.cat([images, images[-1:].expand(short, -1, -1, -1)])
        array = padded.detach().to("cpu", _KINDS[self.image.type]).numpy()
        return torch.from_numpy(self.session.run(None, {self.image.name: array})[0])[: len(images)].float()

    def normalisation(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """Mean and std where the file says them, as our exports do."""
        with contextlib.suppress(KeyError, ValueError, TypeError, RecursionError):
            preparation = files.loads(self.facts["preparation"])
            mean, std = (tuple(float(value) for value in preparation[key]) for key in ("mean", "std"))
            if len(mean) == len(std) == 3 and min(std) > 0:
                return mean, std
        return None

    def labels(self) -> list[str] | None:
        """The classes where the file says them, as our exports do."""
        with contextlib.suppress(KeyError, ValueError, TypeError, RecursionError):
            return list(map(str, json.loads(self.facts["labels"])))
        return None


def _read(path: Path) -> Any:
    """The model without its numbers in other files, all of which are beside it."""
    onnx = require("onnx", "onnx")
    content = _content(path)
    try:
        proto = onnx.load_from_string(content)
        whole = bool(proto.graph.node and proto.graph.output)
    except Exception:  # noqa: BLE001 - protobuf's own error classes differ by version
        whole = False
    if not whole:
        raise CheckpointError(f"teacher {str(path)!r} is damaged or no ONNX model; export it again")
    for place in external_files(proto):
        beside = path.parent / place
        if not files.is_name(place) or beside.is_symlink() or not beside.is_file():
            raise CheckpointError(
                f"teacher {str(path)!r} keeps numbers in {place[:80]!r}, which is no file beside it; save it in one file"
            )
    return proto


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise CheckpointError(f"teacher {str(path)!r}: {getattr(error, 'strerror', None) or error}") from None


def _session(path: Path) -> Any:
    ort = require("onnxruntime", "onnx")
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 3
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - onnxruntime's exceptions have no common public base
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise CheckpointError(f"teacher {str(path)!r} does not load in ONNX Runtime: {reason}") from None


def _input(path: Path, session: Any) -> Any:
    entries = session.get_inputs()
    good = len(entries) == 1 and entries[0].type in _KINDS and len(entries[0].shape) == 4
    if not good or (isinstance(entries[0].shape[1], int) and entries[0].shape[1] != 3):
        inputs = ", ".join(f"{one.type} {one.shape}" for one in entries)[:120]
        raise CheckpointError(
            f"teacher {str(path)!r} takes {inputs}; an image classifier takes floating point (batch, 3, height, width)"
        )
    return entries[0]
