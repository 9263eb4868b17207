"""Convolutions padded as TensorFlow does it, and batch norm's epsilon, through every use of a block."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers import Conv2dSame

from nasvit_edge.block_ops import padded_unevenly
from nasvit_edge.model.blocks import build
from nasvit_edge.model.folding import folded
from nasvit_edge.ops import MBConv, Stem


@settings(deadline=None, max_examples=40)
@given(st.integers(8, 33), st.integers(8, 33), st.sampled_from([1, 3, 5, 7]), st.sampled_from([1, 2]))
def test_a_stem_padded_as_tensorflow_does_it_gives_what_timms_convolution_gives(
    height, width, kernel, stride
):
    op = Stem(
        channels=8,
        kernel_size=kernel,
        stride=stride,
        height=height,
        width=width,
        activation="relu6",
        same=padded_unevenly(stride, height, width),
        eps=1e-3,
    )
    block = build(op).eval()
    theirs = Conv2dSame(3, 8, kernel, stride, bias=False)
    theirs.weight = block.body.conv.weight
    image = torch.randn(2, 3, height, width)
    with torch.no_grad():
        expected = block.act(block.body.norm(theirs(image)))
        assert torch.allclose(block(image), expected, atol=1e-5)
        assert torch.allclose(folded(block)(image), expected, atol=1e-5)
    assert block.body.norm.eps == 1e-3
    assert tuple(block(image).shape[1:]) == op.out_shape()


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("expands", [False, True])
def test_only_the_convolution_that_strides_is_padded(fused, expands):
    op = MBConv(
        in_channels=8,
        expanded=16 if expands else 8,
        channels=8,
        expands=expands,
        squeezed=0,
        kernel_size=5,
        stride=2,
        height=10,
        width=12,
        fused=fused,
        shortcut=False,
        same=True,
    )
    block = build(op).eval()
    image = torch.randn(1, 8, 10, 12)
    assert tuple(block(image).shape[1:]) == op.out_shape()
    assert torch.allclose(folded(block)(image), block(image), atol=1e-5)
    assert op.key().endswith(":same")


@pytest.mark.parametrize(
    ("side", "stride", "uneven"), [(8, 2, True), (9, 2, False), (8, 1, False), (9, 3, True)]
)
def test_uneven_is_what_differs_from_half_the_kernel_all_round(side, stride, uneven):
    assert padded_unevenly(stride, side) == uneven
