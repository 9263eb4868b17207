"""One gradient from two: the projection, its clamp, the clipping, and their order."""

from __future__ import annotations

import json

import pytest
import torch
from conftest import GOLDEN
from hypothesis import given
from hypothesis import strategies as st

from nasvit_edge.train.merge import merge
from nasvit_edge.train.recipe import Merge

SHAPES = ((3,), (2, 4), (1,), (2, 2, 3, 3))
FREE = Merge(clip_subnets=0.0, largest_coefficient=1e6)
PUBLISHED = Merge()
seeds = st.integers(0, 10_000)
CASE_KEYS = ("g_T", "g_S", "published")
CASES = json.loads((GOLDEN / "merge_cases.json").read_text())


def gradients(seed, scale=1.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [scale * torch.randn(shape, generator=generator, dtype=dtype) for shape in SHAPES]


def reference(largest, subnets, rule, project):
    """The published rule, straightforward: clip g_S as a whole, then tensor by tensor."""
    norm = sum(float((s.double() ** 2).sum()) for s in subnets) ** 0.5
    if rule.clip_subnets:
        subnets = [s * min(1.0, rule.clip_subnets / (norm + 1e-6)) for s in subnets]
    merged = []
    for t, s in zip(largest, subnets, strict=True):
        dot = float((s * t).sum())
        added = 0.0
        if project and dot < 0:
            added = min(-dot / (float((s * s).sum()) + 1e-6), rule.largest_coefficient)
        merged.append(s + t + added * s)
    return merged


@given(seeds, st.floats(0.01, 100), st.booleans())
def test_it_matches_a_straightforward_reference(seed, scale, project):
    largest, subnets = gradients(seed), gradients(seed + 1, scale)
    merged = merge(largest, subnets, PUBLISHED, project=project).gradient
    for value, expected in zip(merged, reference(largest, subnets, PUBLISHED, project), strict=True):
        assert torch.allclose(value, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_it_gives_what_the_published_optimizer_gives(case):
    """Two tensors of one value each: `largest`, `subnets` and what was made of them."""
    t, s, published = (torch.tensor(case[key], dtype=torch.float64) for key in CASE_KEYS)
    (merged,) = merge([t], [s], PUBLISHED, project=True).gradient
    assert torch.allclose(merged, published, rtol=0, atol=1e-12)


@given(seeds)
def test_single_precision_matches_it_too(seed):
    largest, subnets = gradients(seed, dtype=torch.float32), gradients(seed + 1, dtype=torch.float32)
    merged = merge(largest, subnets, PUBLISHED, project=True).gradient
    double = [[g.double() for g in side] for side in (largest, subnets)]
    for value, expected in zip(merged, reference(*double, PUBLISHED, True), strict=True):
        assert torch.allclose(value.double(), expected, rtol=1e-3, atol=1e-5)


@given(seeds, st.floats(0.01, 100))
def test_without_a_clamp_nothing_of_the_merged_gradient_is_against_the_subnets(seed, scale):
    largest, subnets = gradients(seed), gradients(seed + 1, scale)
    merged = merge(largest, subnets, FREE, project=True).gradient
    for value, t, s in zip(merged, largest, subnets, strict=True):
        square = float((s * s).sum())
        kept = abs(float((t * s).sum())) * 1e-6 / (square + 1e-6)  # by the 1e-6 that is added
        assert float((value * s).sum()) >= square * (1 - 1e-9) - kept  # the subnets' own step is whole


@given(seeds, st.floats(0.01, 100))
def test_with_the_clamp_what_is_left_against_the_subnets_is_what_the_clamp_leaves(seed, scale):
    largest, subnets = gradients(seed, scale), gradients(seed + 1)
    rule = Merge(clip_subnets=0.0)
    for value, t, s in zip(
        merge(largest, subnets, rule, project=True).gradient, largest, subnets, strict=True
    ):
        dot, square = float((t * s).sum()), float((s * s).sum())
        left = min(dot * 1e-6 / (square + 1e-6), dot + 2.0 * square)
        assert float((value * s).sum()) >= square + min(left, 0.0) - 1e-6 * max(1.0, abs(dot))


@given(seeds)
def test_without_a_conflict_it_is_the_plain_sum(seed):
    largest = gradients(seed)
    subnets = [t * 0.5 for t in largest]
    for value, t, s in zip(
        merge(largest, subnets, FREE, project=True).gradient, largest, subnets, strict=True
    ):
        assert torch.allclose(value, t + s, rtol=1e-12)


@given(seeds)
def test_without_projection_it_is_the_plain_sum_after_the_clip(seed):
    largest, subnets = gradients(seed), gradients(seed + 1, 50)
    norm = sum(float((s**2).sum()) for s in subnets) ** 0.5
    for value, t, s in zip(
        merge(largest, subnets, PUBLISHED, project=False).gradient, largest, subnets, strict=True
    ):
        assert torch.allclose(value, t + s / (norm + 1e-6), rtol=1e-9)


@given(seeds)
def test_the_gradient_of_the_largest_is_never_clipped(seed):
    largest, subnets = gradients(seed, 1e6), [torch.zeros(shape, dtype=torch.float64) for shape in SHAPES]
    for value, t in zip(merge(largest, subnets, PUBLISHED, project=True).gradient, largest, strict=True):
        assert torch.equal(value, t)


@given(seeds)
def test_the_subnets_are_clipped_before_the_merge_and_not_after(seed):
    largest, subnets = gradients(seed), gradients(seed + 1, 100)
    opposite = [-s for s in subnets]
    merged = merge(opposite, subnets, PUBLISHED, project=True).gradient
    for value, expected in zip(merged, reference(opposite, subnets, PUBLISHED, True), strict=True):
        assert torch.allclose(value, expected, rtol=1e-10)
    assert (
        merge(largest, subnets, PUBLISHED, project=True).products.subnets.sum() > 1
    )  # of what came, unclipped


def test_tensors_that_one_side_does_not_have_are_the_other_sides():
    t, s = torch.randn(3), torch.randn(3)
    merged = merge([t, None, t, None], [None, s, s, None], FREE, project=True)
    assert torch.equal(merged.gradient[0], t)
    assert torch.equal(merged.gradient[1], s)
    assert merged.gradient[3] is None
    assert merged.products.dot.tolist()[:2] == [0, 0]
    assert merged.products.dot[2].item() == pytest.approx(float(t @ s), rel=1e-6)


def test_the_merged_gradient_can_be_clipped_as_a_whole():
    largest, subnets = gradients(0, 100), gradients(1, 100)
    merged = merge(largest, subnets, Merge(clip=3.0), project=True).gradient
    assert sum(float((g**2).sum()) for g in merged) ** 0.5 == pytest.approx(3.0, rel=1e-6)


@given(seeds)
def test_what_came_in_is_left_as_it_was(seed):
    largest, subnets = gradients(seed), gradients(seed + 1)
    before = [[g.clone() for g in side] for side in (largest, subnets)]
    merge([*largest, torch.ones(2, dtype=torch.float64)], [*subnets, None], Merge(clip=0.1), project=True)
    for side, kept in zip((largest, subnets), before, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(side, kept, strict=True))


def test_memory_formats_do_not_matter():
    largest, subnets = gradients(0), gradients(1)
    mixed = [g.contiguous(memory_format=torch.channels_last) if g.dim() == 4 else g for g in largest]
    one, two = (merge(t, subnets, PUBLISHED, project=True).gradient for t in (largest, mixed))
    assert all(torch.allclose(a, b) for a, b in zip(one, two, strict=True))


def test_each_element_of_the_merged_gradient_can_be_clipped():
    largest, subnets = gradients(0, 100), gradients(1, 100)
    whole = merge(largest, subnets, Merge(clip_subnets=0.0), project=True).gradient
    merged = merge(largest, subnets, Merge(clip_subnets=0.0, clip_value=1.0), project=True).gradient
    for value, before in zip(merged, whole, strict=True):
        assert torch.equal(value, before.clamp(-1.0, 1.0))
