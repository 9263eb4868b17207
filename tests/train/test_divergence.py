"""What subnets learn from: the divergences, their gradients, and plain targets."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from nasvit_edge.train.divergence import alpha_divergence, from_largest, from_targets, kl
from nasvit_edge.train.recipe import Loss

logits = st.lists(st.tuples(*[st.floats(-3, 3)] * 5), min_size=1, max_size=6).map(
    lambda rows: torch.tensor(rows, dtype=torch.float64)
)
wild = st.lists(st.tuples(*[st.floats(-200, 200)] * 5), min_size=1, max_size=6).map(torch.tensor)


def like(student, most=3):
    """Logits of the same shape and type."""
    values = st.lists(st.floats(-most, most), min_size=student.numel(), max_size=student.numel())
    return values.map(lambda flat: torch.tensor(flat, dtype=student.dtype).view(student.shape))


def definition(student, teacher, alpha, clip=None):
    """(sum q (p/q)^alpha - 1) / (alpha (alpha - 1)) per sample, and its limit KL(p || q) at alpha 1."""
    p, q = teacher.softmax(-1), student.softmax(-1)
    if alpha == 1:
        return (p * (p / q).log()).sum(-1)
    weight = (p / q) ** alpha
    weight = weight if clip is None else weight.clamp(max=clip)
    return ((q * weight).sum(-1) - 1) / (alpha * (alpha - 1))


@given(logits, st.data())
def test_the_divergence_is_the_larger_of_both_by_definition(student, data):
    teacher = data.draw(like(student))
    expected = torch.maximum(definition(student, teacher, -1, 5.0), definition(student, teacher, 1))
    assert alpha_divergence(student, teacher, 5.0).item() == pytest.approx(expected.mean().item(), abs=1e-12)


@given(logits, st.integers(0, 1000))
def test_where_nothing_is_clipped_the_gradient_is_the_numerical_one(student, seed):
    teacher = student + 0.3 * torch.randn(
        student.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    both = [definition(student, teacher, a) for a in (-1, 1)]
    near = bool(((both[0] - both[1]).abs() < 1e-6).any())  # a kink: the larger one changes there
    assume(not near)
    assume(float((student.softmax(-1) / teacher.softmax(-1)).max()) < 4.9)
    student = student.requires_grad_()
    (gradient,) = torch.autograd.grad(alpha_divergence(student, teacher, 5.0), student)
    step = 1e-6
    for i in range(student.numel()):
        moved = [student.detach().clone() for _ in range(2)]
        moved[0].view(-1)[i] += step
        moved[1].view(-1)[i] -= step
        up, down = (
            torch.maximum(definition(m, teacher, -1), definition(m, teacher, 1)).mean() for m in moved
        )
        assert gradient.view(-1)[i].item() == pytest.approx(((up - down) / (2 * step)).item(), abs=1e-7)


@given(logits, st.integers(0, 1000), st.floats(1.0, 10.0))
def test_the_gradient_is_that_of_the_formula_with_fixed_and_clipped_weights(student, seed, clip):
    generator = torch.Generator().manual_seed(seed)
    teacher = 3 * torch.randn(student.shape, generator=generator, dtype=torch.float64)
    student = student.requires_grad_()
    (gradient,) = torch.autograd.grad(alpha_divergence(student, teacher, clip), student)
    p, q = teacher.softmax(-1), student.softmax(-1).detach()
    expected = torch.zeros_like(student)
    for row in range(len(student)):
        larger = definition(student[row], teacher[row], -1, clip) > definition(student[row], teacher[row], 1)
        weight, alpha = ((q / p)[row].clamp(max=clip), -1) if larger else ((p / q)[row], 1)
        log_q = student.log_softmax(-1)[row]
        value = -(1 / alpha) * (q[row] * weight * log_q).sum() / len(student)
        expected += torch.autograd.grad(value, student)[0]
    assert torch.allclose(gradient, expected, atol=1e-12)


@given(wild, st.data())
def test_no_logits_give_anything_but_finite_numbers(student, data):
    teacher = data.draw(like(student, 200))
    student = student.requires_grad_()
    value = alpha_divergence(student, teacher)
    (gradient,) = torch.autograd.grad(value, student)
    assert torch.isfinite(value)
    assert torch.isfinite(gradient).all()


@given(logits)
def test_equal_logits_have_no_divergence_and_no_gradient(both):
    student = both.clone().requires_grad_()
    value = alpha_divergence(student, both)
    assert value.item() == pytest.approx(0, abs=1e-12)
    assert torch.autograd.grad(value, student)[0].abs().max() < 1e-12


def test_the_teacher_gets_no_gradient():
    student, teacher = torch.randn(4, 5, requires_grad=True), torch.randn(4, 5, requires_grad=True)
    for divergence in (alpha_divergence, kl):
        divergence(student, teacher).backward()
    assert teacher.grad is None


def test_kl_is_what_it_says():
    student, teacher = torch.randn(5, 7), torch.randn(5, 7)
    expected = definition(student.double(), teacher.double(), 1).mean().item()
    assert kl(student, teacher).item() == pytest.approx(expected, rel=1e-4)


def test_a_subnet_learns_by_the_rule_of_the_recipe():
    student, teacher, labels = torch.randn(6, 5), torch.randn(6, 5), torch.randint(0, 5, (6,))
    by = {
        kind: from_largest(student, teacher, labels, Loss(distillation=kind))
        for kind in ("alpha", "kl", "labels")
    }
    assert torch.equal(by["alpha"], alpha_divergence(student, teacher, 5.0))
    assert torch.equal(by["kl"], kl(student, teacher))
    assert torch.equal(by["labels"], from_targets(student, labels))


def test_classes_and_their_one_hot_probabilities_are_the_same_targets():
    student, labels = torch.randn(6, 5), torch.randint(0, 5, (6,))
    soft = torch.nn.functional.one_hot(labels, 5).float()
    assert torch.allclose(from_targets(student, labels, 0.1), from_targets(student, soft, 0.1), atol=1e-6)
