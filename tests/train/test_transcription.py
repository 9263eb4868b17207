"""Three steps from one state are those of a straight transcription of the method, in double precision."""

from __future__ import annotations

import copy
import random

import torch

from nasvit_edge.train.initial import initialised
from nasvit_edge.train.merge import merge
from nasvit_edge.train.optimise import optimizer_for
from nasvit_edge.train.recipe import load_recipe
from nasvit_edge.train.step import Passes, sandwich

RATES = (1e-3, 2e-3, 5e-4)
RECIPE = load_recipe("nasvit")


def batches():
    generator = torch.Generator().manual_seed(5)
    for _ in RATES:
        images = torch.randn(16, 3, 12, 12, generator=generator, dtype=torch.float64)
        yield images, torch.randint(0, 4, (16,), generator=generator)


def transcribed(supernet, configs):
    """Spec section 4, line by line: losses, clip of g_S, merge tensor by tensor, AdamW without decay."""
    weights = list(supernet.parameters())
    first, second = ([torch.zeros_like(w) for w in weights] for _ in range(2))
    for step, ((images, labels), rate, chosen) in enumerate(zip(batches(), RATES, configs, strict=True), 1):
        logits = supernet(images, chosen[0])
        loss = -logits.log_softmax(1)[torch.arange(len(labels)), labels].mean()
        g_t = torch.autograd.grad(loss, weights, allow_unused=True)
        g_s = [None] * len(weights)
        p = logits.detach().softmax(1)
        for config in chosen[1:]:
            mine = torch.autograd.grad(distilled(supernet(images, config), p), weights, allow_unused=True)
            g_s = [b if a is None else a if b is None else a + b for a, b in zip(g_s, mine, strict=True)]
        norm = sum(float((g**2).sum()) for g in g_s if g is not None) ** 0.5
        g_s = [None if g is None else g * min(1.0, 1.0 / (norm + 1e-6)) for g in g_s]
        for i, weight in enumerate(weights):
            g = merged(g_t[i], g_s[i])
            if g is not None:
                first[i] = 0.9 * first[i] + 0.1 * g
                second[i] = 0.999 * second[i] + 0.001 * g * g
                mean, square = first[i] / (1 - 0.9**step), second[i] / (1 - 0.999**step)
                weight.data -= rate * mean / (square.sqrt() + 1e-8)


def distilled(logits, p):
    """-(1/alpha) sum q w log q with q and w held fixed, alpha by the larger divergence of each sample."""
    log_q = logits.log_softmax(1)
    q = log_q.detach().exp()
    clipped = (q / p).clamp(max=5.0)  # w of alpha = -1
    minus = ((q * clipped).sum(1) - 1) / 2
    plus = (p * (p / q).log()).sum(1)  # alpha -> 1
    of_minus, of_plus = (q * clipped * log_q).sum(1), -(q * (p / q) * log_q).sum(1)
    return torch.where(minus > plus, of_minus, of_plus).mean()


def merged(t, s):
    if t is None or s is None:
        return s if t is None else t
    dot = float((s * t).sum())
    if dot >= 0:
        return s + t
    return s + t + min(max(-dot / (float((s * s).sum()) + 1e-6), 0.0), 2.0) * s


def test_three_steps_are_those_of_the_method_s_text(tiny):
    ours = initialised(tiny, 0).double().train()
    theirs = copy.deepcopy(ours)
    before = [p.detach().clone() for p in ours.parameters()]
    rng = random.Random(7)
    configs = [sandwich(tiny, RECIPE.subnets, rng) for _ in RATES]
    transcribed(theirs, configs)
    passes, optimizer = Passes(ours, RECIPE), optimizer_for(ours, RECIPE.optimizer)
    for (images, labels), rate, chosen in zip(batches(), RATES, configs, strict=True):
        done = passes(images, labels, chosen)
        actual = merge(done.largest, done.subnets, RECIPE.merge, project=True)
        for parameter, gradient in zip(passes.parameters, actual.gradient, strict=True):
            parameter.grad = gradient
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
    moved = sum(
        float(((a - b).detach() ** 2).sum()) for a, b in zip(theirs.parameters(), before, strict=True)
    )
    apart = sum(
        float(((a - b).detach() ** 2).sum())
        for a, b in zip(theirs.parameters(), ours.parameters(), strict=True)
    )
    assert moved > 0
    assert (apart / moved) ** 0.5 < 1e-7
