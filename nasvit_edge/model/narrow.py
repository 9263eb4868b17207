"""A subnet as a supernet of its own: the space that has it alone, and the leading parts of the weights.

So everything that works on supernets (training, calibration, export in every format, checks) works on one subnet.
"""

from __future__ import annotations

import torch

from nasvit_edge.model.supernet import Supernet, leading
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
            value.copy_(leading(wide[entry], value.shape))
    narrow.trained_on = supernet.trained_on
    narrow.source = {**supernet.source, "narrowed": config.to_dict()}
    return narrow.eval()
