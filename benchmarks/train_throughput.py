"""How fast a training step is, against a straightforward loop over the same step: python benchmarks/train_throughput.py

Both train the same supernet on the same batches (in memory, made beforehand) with two threads, in turns, in one
process. The straightforward loop: the same modules in torch's default memory format, gradients set to None, one pass
after another with `backward`, the published order of clip and merge tensor by tensor, torch's AdamW, the average
tensor by tensor. Prints images per second of both, the ratio, how far their losses are apart, and where the time goes.
"""

import argparse
import copy
import functools
import random
import statistics
import tempfile
import time
from pathlib import Path

import torch

from nasvit_edge.data_sets import training_splits
from nasvit_edge.space import load_space
from nasvit_edge.train.diagnosis import Watch
from nasvit_edge.train.divergence import alpha_divergence, from_targets
from nasvit_edge.train.initial import initialised
from nasvit_edge.train.loop import Settings, Trainer
from nasvit_edge.train.recipe import load_recipe
from nasvit_edge.train.step import sandwich
from nasvit_edge.train.world import World


class Plain:
    """The published step, written down as it reads."""

    def __init__(self, supernet, recipe):
        self.supernet, self.recipe = supernet, recipe
        self.parameters = list(supernet.parameters())
        self.average = [p.detach().clone() for p in self.parameters]
        o = recipe.optimizer
        self.optimizer = torch.optim.AdamW(self.parameters, lr=o.learning_rate, weight_decay=o.weight_decay)

    def step(self, images, targets, configs, rate, project):
        self.optimizer.zero_grad(set_to_none=True)
        teacher = self.supernet(images, configs[0])
        loss = from_targets(teacher, targets)
        loss.backward()
        largest = [None if p.grad is None else p.grad.clone() for p in self.parameters]
        self.optimizer.zero_grad(set_to_none=True)
        for config in configs[1:]:
            alpha_divergence(self.supernet(images, config), teacher).backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, self.recipe.merge.clip_subnets)
        for p, t in zip(self.parameters, largest, strict=True):
            if t is None or p.grad is None:
                p.grad = t if p.grad is None else p.grad
                continue
            dot = (p.grad * t).sum()
            merged = p.grad + t
            if project and dot < 0:
                merged = merged + min(-dot / p.grad.pow(2).sum(), 2.0) * p.grad
            p.grad = merged
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        with torch.no_grad():
            for average, p in zip(self.average, self.parameters, strict=True):
                average.lerp_(p, 1 - self.recipe.run.ema)
        return loss.item()


class Ours:
    """The trainer's own step, on batches that are there."""

    def __init__(self, supernet, images, recipe, threads, out):
        settings = Settings(out=out, threads=threads, workers=0)
        self.trainer = Trainer(supernet, images, recipe, settings, World())
        self.watch, self.spent = Watch(self.trainer), {"passes": 0.0, "update": 0.0}
        self.trainer.passes = self._timed("passes", self.trainer.passes)
        self.trainer._update = self._timed("update", self.trainer._update)

    def _timed(self, name, function):
        def timed(*arguments):
            start = time.perf_counter()
            result = function(*arguments)
            self.spent[name] += time.perf_counter() - start
            return result

        return timed

    def step(self, batch):
        record, _ = self.trainer.advance(iter([[batch]]), self.watch)
        return record.loss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--space", default="nano")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    space = load_space(options.space)
    recipe = load_recipe("nano").with_values(
        [f"run.batch_size={options.batch_size}", "merge.project_from_epoch=0"]
    )
    images, _ = training_splits(options.data, space)
    with tempfile.TemporaryDirectory() as folder:
        compare(space, images, recipe, options, Path(folder))


def compare(space, images, recipe, options, out):
    first = initialised(space, 0).train()
    plain, ours = Plain(copy.deepcopy(first), recipe), Ours(first, images, recipe, options.threads, out)
    trainer = ours.trainer
    seconds, losses = {"plain": [], "ours": []}, {"plain": [], "ours": []}
    for i, (batch,) in enumerate(list(trainer.loader.steps(0, options.steps))):
        configs = sandwich(space, recipe.subnets, random.Random(i))  # as the trainer of seed 0 draws them
        rate, pixels = trainer.rate(), batch.images.contiguous()
        works = {
            "plain": functools.partial(plain.step, pixels, batch.targets, configs, rate, True),
            "ours": functools.partial(ours.step, batch),
        }
        for name in sorted(works, reverse=bool(i % 2)):
            torch.set_num_threads(options.threads)
            start = time.perf_counter()
            losses[name].append(works[name]())
            seconds[name].append(time.perf_counter() - start)
    report(seconds, losses, ours, recipe.run.batch_size)


def report(seconds, losses, ours, batch):
    warm = 3  # modules are made and caches filled
    ratios = [p / o for p, o in zip(seconds["plain"][warm:], seconds["ours"][warm:], strict=True)]
    for name, values in seconds.items():
        middle = statistics.median(values[warm:])
        print(f"{name:6s} {1e3 * middle:6.0f} ms a step, {batch / middle:6.1f} images/s")
    q = statistics.quantiles(ratios, n=4)
    print(
        f"ratio  {statistics.median(ratios):.2f} (quartiles {q[0]:.2f} to {q[2]:.2f}, {len(ratios)} steps in turns)"
    )
    apart = max(abs(a - b) for a, b in zip(losses["plain"], losses["ours"], strict=True))
    print(
        f"losses at most {apart:.1e} apart over {len(losses['ours'])} steps ({losses['ours'][0]:.3f} to {losses['ours'][-1]:.3f})"
    )
    whole = sum(seconds["ours"])
    ours.spent["merge, watch, record"] = whole - sum(ours.spent.values())
    print("where the time goes: " + ", ".join(f"{k} {v / whole:.1%}" for k, v in ours.spent.items()))


if __name__ == "__main__":
    main()
