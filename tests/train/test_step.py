"""One training step: the sandwich rule and in-place distillation."""

from __future__ import annotations

import math
import random

import pytest
import torch
from torch.nn import functional as F

from nasvit_edge.model.checkpoint import random_supernet
from nasvit_edge.train.step import accumulate, distillation, sandwich


def test_the_sandwich_is_largest_smallest_then_random_ones(tiny):
    supernet = random_supernet(tiny)
    chosen = sandwich(supernet, random.Random(0), 3)
    assert chosen[:2] == [tiny.largest(), tiny.smallest()]
    assert len(chosen) == 5
    assert chosen == sandwich(supernet, random.Random(0), 3)
    assert chosen[2:] != sandwich(supernet, random.Random(1), 3)[2:]


def test_random_subnets_take_every_choice_of_every_gene(tiny):
    rng, supernet = random.Random(0), random_supernet(tiny)
    seen = [sandwich(supernet, rng, 1)[2] for _ in range(200)]
    assert {config.resolution for config in seen} == set(tiny.resolutions)
    assert {config.depth[1] for config in seen} == {1, 2, 3}


def test_distillation_is_the_divergence_from_the_teacher():
    student, teacher = torch.randn(5, 7), torch.randn(5, 7)
    p, q = teacher.softmax(-1), student.softmax(-1)
    assert distillation(student, p).item() == pytest.approx(
        (p * (p / q).log()).sum(-1).mean().item(), rel=1e-4
    )
    assert distillation(teacher, p).item() == pytest.approx(0, abs=1e-6)


def test_the_largest_learns_from_labels_and_the_others_from_it(tiny):
    supernet = random_supernet(tiny).train()
    images, labels = torch.randn(8, 3, 12, 12), torch.randint(0, 4, (8,))
    configs = sandwich(supernet, random.Random(0), 2)
    loss, distilled = accumulate(supernet, images, labels, configs, 0.1)
    together = _gradients(supernet)
    with torch.no_grad():
        teacher = supernet(images, configs[0])
        students = [supernet(images, config) for config in configs[1:]]
    assert loss == pytest.approx(F.cross_entropy(teacher, labels, label_smoothing=0.1).item(), rel=1e-5)
    apart = [distillation(student, teacher.softmax(-1)).item() for student in students]
    assert distilled == pytest.approx(sum(apart) / 3, rel=1e-5)
    supernet.zero_grad()
    F.cross_entropy(supernet(images, configs[0]), labels, label_smoothing=0.1).backward()
    for config in configs[1:]:  # the teacher's logits carry no gradient
        distillation(supernet(images, config), teacher.softmax(-1)).backward()
    alone = _gradients(supernet)
    assert all(torch.allclose(together[n], alone[n], rtol=1e-3, atol=1e-6) for n in together)


def _gradients(supernet: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {n: p.grad.clone() for n, p in supernet.named_parameters() if p.grad is not None}


def test_without_other_subnets_nothing_is_distilled(tiny):
    supernet = random_supernet(tiny).train()
    loss, distilled = accumulate(
        supernet, torch.randn(4, 3, 8, 8), torch.zeros(4).long(), [tiny.largest()], 0.0
    )
    assert math.isfinite(loss)
    assert distilled == 0
