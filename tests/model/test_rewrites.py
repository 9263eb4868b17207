"""Rewrites for runtimes: each computes what it found, in another way."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from nasvit_edge.export.formats import format_names, load_format
from nasvit_edge.model import rewrites
from nasvit_edge.model.blocks import build
from nasvit_edge.model.checkpoint import fill_generic
from nasvit_edge.model.folded import FoldedAttention
from nasvit_edge.model.folding import folded, folded_state
from nasvit_edge.ops import Labels, TransformerBlock
from nasvit_edge.runtimes import RUNTIMES

BLOCK = TransformerBlock(channels=24, head_width=8, value_ratio=4, height=4, width=6)
LABELS = Labels(classes=5, height=3, width=4, out_height=7, out_width=9)


def _block() -> nn.Module:
    torch.manual_seed(0)
    block = build(BLOCK)
    fill_generic(block)
    return block.eval()


def _calls(module: nn.Module) -> set[str]:
    """The names of the functions and methods in a module's trace."""
    nodes = torch.fx.symbolic_trace(module).graph.nodes
    called = [node.target for node in nodes if node.op in ("call_function", "call_method")]
    return {target if isinstance(target, str) else target.__name__ for target in called}


def _same(module: nn.Module, other: nn.Module, op=BLOCK) -> bool:
    x = torch.randn(2, *op.in_shape(), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        actual, expected = module(x).float(), other(x).float()
    return bool((actual - expected).abs().max() < 1e-4 * expected.std())


def test_queries_are_sliced_where_their_weights_would_leave_the_cache(monkeypatch):
    monkeypatch.setattr(rewrites, "SLICE_BYTES", 2_000)
    result = rewrites.slice_queries(folded(_block()))
    assert next(m.slices for m in result.modules() if isinstance(m, FoldedAttention)) > 1
    assert "cat" in _calls(result)
    assert _same(result, folded(_block()))


def test_norms_become_layer_norms():
    result = rewrites.layer_norm(folded(_block()))
    assert "layer_norm" in _calls(result)
    assert "group_norm" not in _calls(result)
    assert _same(result, folded(_block()))


@pytest.mark.parametrize("before", [folded, lambda block: rewrites.channels_last(folded(block))])
def test_norms_become_steps(before):
    result = rewrites.norm_in_steps(before(_block()))
    assert not {"layer_norm", "group_norm"} & _calls(result)
    assert "rsqrt" in _calls(result)
    assert _same(result, folded(_block()))


def test_for_channels_last_tokens_have_their_channels_on_the_last_axis():
    result = rewrites.channels_last(folded(_block()))
    convolutions = [m for _, m in result.named_children() if isinstance(m, nn.Conv2d)]
    assert [m.kernel_size for m in convolutions] == [(3, 3)]  # of the values; all others are linear layers
    assert _same(result, folded(_block()))


def test_for_channels_last_labels_are_the_largest_of_the_last_axis():
    result = rewrites.channels_last(folded(build(LABELS)))
    axes = [n.args[1] for n in torch.fx.symbolic_trace(result).graph.nodes if n.target == "argmax"]
    assert axes == [3]
    assert _same(result, build(LABELS), LABELS)


@pytest.mark.parametrize(
    "rewrite",
    sorted({r for each in rewrites.REWRITES.values() for r in each}, key=lambda r: r.__name__),
    ids=lambda r: r.__name__,
)
def test_a_rewrite_leaves_what_it_does_not_concern_as_it_is(rewrite):
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.SiLU())
    assert rewrite(module) is module


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_every_runtime_has_its_rewrites_and_all_together_compute_the_same(runtime):
    assert _same(rewrites.fold_block(_block(), runtime), _block())


def test_a_runtime_that_keeps_channels_last_is_one_whose_format_does():
    assert set(rewrites.REWRITES) == set(RUNTIMES)
    for name in format_names():
        form = load_format(name)
        runtimes = [runtime for runtime, runtime_facts in RUNTIMES.items() if runtime_facts.form == name]
        last = {rewrites.channels_last in rewrites.REWRITES[runtime] for runtime in runtimes}
        assert last == {form.layout == "NHWC"}


def test_weights_are_folded_for_training_as_for_export():
    """In single precision and with gradients, by the same function."""
    block = _block()
    state = {name: value.detach().requires_grad_() for name, value in block.state_dict().items()}
    exported, trained = folded(block).state_dict(), folded_state(block, state)
    assert list(exported) != []
    assert set(exported) == set(trained)
    assert all(torch.allclose(exported[name], trained[name], atol=1e-6, rtol=1e-5) for name in exported)
    sum(value.square().sum() for value in trained.values()).backward()
    assert all(value.grad is not None for value in state.values())


@given(st.integers(1, 32), st.integers(1, 2000))
def test_slices_of_queries_are_equal_few_and_no_more_than_needed(heads, tokens):
    slices = rewrites.query_slices(heads, tokens)
    fewer = [n for n in range(1, slices) if tokens % n == 0]
    assert tokens % slices == 0
    assert slices <= rewrites.MOST_SLICES
    assert all(4 * heads * tokens**2 > n * rewrites.SLICE_BYTES for n in fewer)
