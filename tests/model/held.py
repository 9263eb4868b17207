"""Weights in memory, as a file that is open holds them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from nasvit_edge.model.filling import load_weights
from nasvit_edge.model.finding import StoredTensor
from nasvit_edge.model.supernet import Supernet
from nasvit_edge.model.weights_file import Found, WeightsFile


def held(tensors: Mapping[str, Tensor], where: str = "some.pth") -> WeightsFile:
    """A file of these tensors, all in one dictionary."""
    stored = {name: StoredTensor("", tuple(t.shape), name, lambda t=t: t) for name, t in tensors.items()}
    return WeightsFile(Path(where), stored, {}, dict.fromkeys(tensors, ""))


def load_tensors(supernet: Supernet, tensors: Mapping[str, Tensor]) -> Found:
    """Give a supernet these weights."""
    return load_weights(supernet, held(tensors))
