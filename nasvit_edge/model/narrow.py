"""A subnet as a supernet of its own: the space that has it alone, and the leading parts of the weights.

So everything that works on supernets (training, calibration, export in every format, checks) works on one subnet.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nasvit_edge.model.supernet import Supernet
from nasvit_edge.space import SubnetConfig


def narrowed(supernet: Supernet, config: SubnetConfig, *, name: str = "") -> Supernet:
    """A supernet of `supernet.space.only(config)` that computes what `config` does in `supernet`, with its own storage.

    Banks of layer scaling and position tables keep what the narrow space's shapes need. Batch-norm statistics
    are cut to size as well and are, as those of the wide one, of use only after calibration. In eval mode.

    Args:
        name: of the new space; by default `NAME-subnet-HASH`.
    """
    narrow = Supernet(supernet.space.only(config, name=name), supernet.scaling)
    wide = supernet.state_dict()
    with torch.no_grad():
        for entry, value in narrow.state_dict().items():
            value.copy_(_part(entry, wide[entry], value.shape))
    narrow.trained_on = supernet.trained_on
    narrow.source = {**supernet.source, "narrowed": config.to_dict()}
    return narrow.eval()


def _part(entry: str, wide: Tensor, shape: torch.Size) -> Tensor:
    """The leading part with `shape`; kernels from the centre."""
    if entry.endswith("depthwise.conv.weight"):
        margin = (wide.shape[-1] - shape[-1]) // 2
        kernel = slice(margin, margin + shape[-1])
        return wide[: shape[0], :, kernel, kernel]
    return wide[tuple(slice(0, n) for n in shape)]
