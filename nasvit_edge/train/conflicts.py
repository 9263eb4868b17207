"""The conflict meter: do the largest subnet and the others pull a layer the same way?

A row of `conflicts.csv` holds, for one step, the cosine between g_T and g_S over all parameters, and for every block
and every layer. A cell is empty where one of the two has no gradient (a block that no other subnet of the step used).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nasvit_edge.records import Record
from nasvit_edge.train.logs import Rows

if TYPE_CHECKING:  # the report reads files of this form without torch
    from nasvit_edge.train.merge import Products

FILE = "conflicts.csv"
ALL = "all"
DENSE = 20_000  # steps that are all measured; ten times as many every tenth, and so on
_FAMILIES = (  # kind, and the parts of a layer's name that tell it
    ("SE", r"se\.\w+"),
    ("attention", r"attention\..+"),
    ("MLP", r"mlp\d\..+"),
    ("scaling", r"scale_\w+"),
    ("norm", r"(.+\.)?norm\d?"),
)
_OWN = {"first_conv": "stem", "last_conv": "head", "classifier": "classifier"}
KINDS = ("stem", "MBConv conv", "SE", "attention", "MLP", "scaling", "norm", "head", "classifier")
Array = np.ndarray[Any, np.dtype[np.float64]]


class Agreement(Record, frozen=True, kw_only=True):
    """The cosine of g_S and g_T over so many batches, the mean of `groups` of them.

    Attributes:
        images: in a group.
        cosines: over all parameters (`all`), then by kind of layer.
        error: the standard error of the one over all parameters: from group to group, of a single group by leaving out each quarter of it
            in turn (jackknife); None where neither can be.
    """

    batches: int
    images: int
    groups: int
    cosines: dict[str, float]
    error: float | None = None


class Meter:
    """Writes `conflicts.csv`.

    Args:
        names: of the parameter tensors, in the order of the gradients: `supernet.named_parameters()`.
        path: the file.
        resume_step: rows of later steps are cut; 0: a new file.

    Raises:
        TrainingError: it cannot be written, or was written for other layers.
    """

    def __init__(self, names: Sequence[str], path: Path, *, resume_step: int = 0) -> None:
        places = [ALL, *_places(names)]
        index = {place: i for i, place in enumerate(places)}
        self._tensors, self._columns = len(names), len(places)
        of_layer, of_block = ([index[place(name)] for name in names] for place in (layer, block))
        self._index = np.array([[0] * len(names), of_block, of_layer])
        self._rows = Rows(path, ["step", *places], resume_step)

    def record(self, step: int, products: Products) -> None:
        """Add the row of a step (steps done, this one included) from the products of its gradients."""
        if step % stride(step):
            return
        import torch

        each = torch.stack([products.dot, products.subnets, products.largest])
        values = self._cosines(each.double().cpu().numpy())  # the only time that the device is waited for
        self._rows.add([step, *("" if np.isnan(v) else f"{v:.4g}" for v in values)])

    def flush(self) -> None:
        """Write the rows that wait; a checkpoint does this first."""
        self._rows.flush()

    def close(self) -> None:
        """Write the rows that wait and close the file; twice is once."""
        self._rows.close()

    def __enter__(self) -> Meter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _cosines(self, products: Array) -> Array:
        """Of all parameters, then of the places in order, (columns,); from (3, tensors)."""
        if products.shape[1] != self._tensors:
            raise ValueError(f"products of {products.shape[1]} tensors for a meter of {self._tensors}")
        index = self._index.ravel()
        dot, subnets, largest = (
            np.bincount(index, weights=np.tile(row, len(self._index)), minlength=self._columns)
            for row in products
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            cosine: Array = dot / (np.sqrt(subnets) * np.sqrt(largest))
        return np.where(np.isfinite(cosine), cosine.clip(-1, 1), np.nan)


def stride(step: int) -> int:
    """How many steps a row at this step stands for: 1 up to DENSE, 10 up to ten times that, and so on."""
    apart = 1
    while step > DENSE * apart:
        apart *= 10
    return apart


def layer(name: str) -> str:
    """The module that holds a tensor: weight and bias are one layer; anything else is one by itself."""
    module, _, leaf = name.rpartition(".")
    return module if module and leaf in ("weight", "bias") else name


def kind(layer: str) -> str:
    """The kind of a layer: one of KINDS."""
    name = block(layer)
    rest = layer[len(name) + 1 :]
    for family, pattern in _FAMILIES:
        if re.fullmatch(pattern, rest):
            return family
    return _OWN.get(name, "MBConv conv")


def block(name: str) -> str:
    """The block of a tensor or layer: `mb3.1`, `first_conv`, `last_conv`, `classifier`."""
    stage, _, rest = name.partition(".")
    index = rest.partition(".")[0]
    return f"{stage}.{index}" if index.isdigit() else stage


def _places(names: Sequence[str]) -> list[str]:
    """Blocks, each followed by its layers, in the order of the network."""
    blocks: dict[str, dict[str, None]] = {}
    for name in names:
        blocks.setdefault(block(name), {})[layer(name)] = None
    return [place for name, layers in blocks.items() for place in dict.fromkeys((name, *layers))]
