"""Losses of segmenters against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from nasvit_edge.data_sets.scenes import IGNORE, in_memory
from nasvit_edge.train import pixels

few = settings(max_examples=25, deadline=None)


def drawn(seed, classes=4, grid=(3, 5), size=(12, 20)):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, classes, *grid, generator=generator, dtype=torch.float64)
    masks = torch.randint(classes, (2, *size), generator=generator)
    masks[torch.rand(masks.shape, generator=generator) < 0.3] = IGNORE
    return logits, masks


@few
@given(st.integers(0, 1000), st.sampled_from([0.0, 0.1]))
def test_the_loss_is_the_mean_over_labelled_pixels(seed, smoothing):
    logits, masks = drawn(seed)
    whole = F.interpolate(logits, masks.shape[1:], mode="bilinear", align_corners=False)
    rows, labels = whole.permute(0, 2, 3, 1).reshape(-1, 4), masks.flatten()
    kept = labels != IGNORE
    expected = F.cross_entropy(rows[kept], labels[kept], label_smoothing=smoothing)
    assert torch.isclose(pixels.from_masks(logits, masks, smoothing), expected)


@few
@given(st.integers(0, 1000), st.sampled_from([(3, 5), (6, 10), (12, 20), (2, 3)]))
def test_rows_of_another_grid_and_their_gradient_are_those_of_a_bilinear_resize(seed, grid):
    logits = drawn(seed)[0].requires_grad_()
    resized = F.interpolate(logits, grid, mode="bilinear", align_corners=False)
    expected = resized.permute(0, 2, 3, 1).flatten(0, 2)
    actual = pixels.rows(logits, grid)
    assert torch.allclose(actual, expected, atol=1e-12)
    weights = torch.rand_like(actual)
    wanted, gradient = (torch.autograd.grad((rows * weights).sum(), logits)[0] for rows in (expected, actual))
    assert torch.allclose(wanted, gradient, atol=1e-12)


def test_masks_without_a_label_give_no_loss_and_no_gradient():
    logits, masks = drawn(0)
    logits.requires_grad_()
    loss = pixels.from_masks(logits, torch.full_like(masks, IGNORE))
    loss.backward()
    assert float(loss.detach()) == 0
    assert not logits.grad.any()


@few
@given(st.integers(0, 1000))
def test_what_is_not_labelled_changes_nothing(seed):
    logits, masks = drawn(seed, grid=(12, 20))
    before = pixels.from_masks(logits, masks)
    changed = logits + torch.where((masks == IGNORE)[:, None], torch.randn_like(logits), 0.0)
    assert torch.equal(pixels.from_masks(changed, masks), before)


def test_rows_are_cells_in_order_and_other_grids_are_resized():
    logits, _ = drawn(1)
    rows = pixels.rows(logits, (3, 5))
    assert torch.equal(rows[2 * 5 + 3], logits[0, :, 2, 3])
    assert torch.equal(rows[15], logits[1, :, 0, 0])
    assert pixels.rows(logits, (6, 10)).shape == (2 * 60, 4)


@pytest.mark.parametrize(
    ("share", "size"), [(1.0, (96, 128)), (0.5, (48, 64)), (192 / 360, (51, 68)), (1e-4, (1, 1))]
)
def test_a_smaller_resolution_takes_its_share_of_a_crop(share, size):
    assert pixels.size_of(96, 128, share) == size


@few
@given(st.integers(0, 1000), st.sampled_from([0.0, 0.1]))
def test_with_class_weights_the_loss_is_the_weighted_mean(seed, smoothing):
    logits, masks = drawn(seed, grid=(12, 20))
    weights = torch.rand(4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.1
    rows, labels = logits.permute(0, 2, 3, 1).reshape(-1, 4), masks.flatten()
    kept = labels != IGNORE
    expected = F.cross_entropy(rows[kept], labels[kept], weights, label_smoothing=smoothing)
    assert torch.isclose(pixels.from_masks(logits, masks, smoothing, weights), expected)
    equal = pixels.from_masks(logits, masks, smoothing, torch.ones(4, dtype=torch.float64))
    assert torch.isclose(equal, pixels.from_masks(logits, masks, smoothing))


def scenes(*masks):
    pairs = [(np.zeros((3, *m.shape), np.uint8), m) for m in (np.array(m, np.uint8) for m in masks)]
    return in_memory("drawn", pairs)


def test_frequent_classes_weigh_less():
    """A class is counted in the images that it is in: 0 in both, 1 in the second, 2 in the first."""
    some = scenes([[0, 0, 0, 0], [0, 0, 2, IGNORE]], [[0, 0, 1, 1], [1, IGNORE, IGNORE, IGNORE]])
    actual = pixels.class_weights(some, 4, 1.0)
    frequency = np.array([8 / 12, 3 / 5, 1 / 7])
    expected = np.median(frequency) / frequency
    assert np.allclose(actual[:3], expected)
    assert float(actual[3]) == 1  # occurs nowhere
    assert np.allclose(pixels.class_weights(some, 4, 0.5)[:3], np.sqrt(expected))
    assert torch.equal(pixels.class_weights(some, 4, 0.0), torch.ones(4))
