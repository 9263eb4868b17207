"""One gradient from two: the largest subnet's g_T and the others' sum g_S (spec section 4, step 3).

Gradients are lists in the order of the supernet's parameters; None stands for a tensor that no subnet used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nasvit_edge.train.recipe import Merge

Gradient = list[Tensor | None]
_SMALL = 1e-6  # as published: gradients of a tensor are often below 1e-3


@dataclass(frozen=True, slots=True)
class Products:
    """<g_S, g_T>, |g_S|^2 and |g_T|^2 of every parameter tensor, each (tensors,); of the gradients as they came."""

    dot: Tensor
    subnets: Tensor
    largest: Tensor


@dataclass(frozen=True, slots=True)
class Merged:
    """The merged gradient and what it was made from; norms are of all parameters together, before any clipping."""

    gradient: Gradient
    products: Products


def merge(largest: Gradient, subnets: Gradient, rule: Merge, *, project: bool) -> Merged:
    """The gradient of a step.

    g_S is clipped as a whole to `rule.clip_subnets`; then, tensor by tensor, g = g_S + g_T, and where
    `project` and <g_S, g_T> < 0, the component of g_T against g_S is taken away: the added multiple of
    g_S, -<g_S, g_T> / (|g_S|^2 + 1e-6), is at most `rule.largest_coefficient`.

    Args:
        largest, subnets: g_T and g_S, tensors of the same shapes; not changed.
    """
    dots = products(largest, subnets)
    factors = _factors(dots, rule, project).unbind()
    merged = [_sum(t, s, f) for t, s, f in zip(largest, subnets, factors, strict=True)]
    clipped = _clipped(merged, rule.clip)
    if rule.clip_value:
        clipped = [None if g is None else g.clamp(-rule.clip_value, rule.clip_value) for g in clipped]
    return Merged(clipped, dots)


def added(total: Gradient, more: Gradient) -> Gradient:
    """The sum of two gradients, tensor by tensor."""
    return [a if b is None else b if a is None else a + b for a, b in zip(total, more, strict=True)]


def _sum(t: Tensor | None, s: Tensor | None, factor: Tensor) -> Tensor | None:
    """t + factor * s."""
    if s is None:
        return t
    return s * factor if t is None else torch.addcmul(t, s, factor)


def _factors(products: Products, rule: Merge, project: bool) -> Tensor:
    """What g_S is multiplied with, (tensors,): the clip, and 1 and the added multiple where there is a conflict."""
    scale = _clip_factor(products.subnets.sum().sqrt(), rule.clip_subnets)
    if not project:
        return scale.expand(len(products.dot))
    # of g_S as it is after the clip; in multiples of that
    multiple = -scale * products.dot / (scale * scale * products.subnets + _SMALL)
    multiple = torch.where(products.dot < 0, multiple.clamp(max=rule.largest_coefficient), 0.0)
    return scale * (1 + multiple)


def products(largest: Gradient, subnets: Gradient) -> Products:
    """Of two gradients, tensor by tensor."""
    zero = next(g for g in (*largest, *subnets) if g is not None).new_zeros(())

    def dots(left: Gradient, right: Gradient) -> Tensor:
        pairs = zip(left, right, strict=True)
        return torch.stack(
            [zero if a is None or b is None else torch.dot(_flat(a), _flat(b)) for a, b in pairs]
        )

    return Products(dots(subnets, largest), dots(subnets, subnets), dots(largest, largest))


def _flat(tensor: Tensor) -> Tensor:
    """(n,), in the same order for two tensors of one shape and any strides."""
    return tensor.reshape(-1)


def _clip_factor(norm: Tensor, limit: float) -> Tensor:
    """What a gradient of this norm is multiplied with so that its norm is at most `limit`; 0: no limit."""
    if not limit:
        return torch.ones_like(norm)
    return (limit / (norm + 1e-6)).clamp(max=1.0)  # as torch.nn.utils.clip_grad_norm_


def _times(tensors: list[Tensor], factors: list[Tensor]) -> Sequence[Tensor]:
    return torch._foreach_mul(tensors, factors) if tensors else []


def _clipped(gradient: Gradient, limit: float) -> Gradient:
    if not limit:
        return gradient
    present = [g for g in gradient if g is not None]
    norm = torch.stack([g.norm() for g in present]).norm()
    clipped = iter(_times(present, [_clip_factor(norm, limit)] * len(present)))
    return [None if g is None else next(clipped) for g in gradient]
