"""How fast a training step is, against a straightforward loop over the same step: python benchmarks/train_throughput.py

Both train the same supernet on the same batches (in memory, made beforehand) with two threads, in turns, in one
process. The straightforward loop: the same modules in torch's default memory format, gradients set to None, one pass
after another with `backward`, the published order of clip and merge tensor by tensor, torch's AdamW, the average
tensor by tensor. Prints images per second of both, the ratio, how far their losses are apart, and where the time goes.
"""

import argparse
import copy
import random
import statistics
import time

import torch

from nasvit_edge.data_sets import training_splits
from nasvit_edge.space import load_space
from nasvit_edge.train.divergence import alpha_divergence, from_targets
from nasvit_edge.train.initial import initialised
from nasvit_edge.train.loading import Loader
from nasvit_edge.train.merge import merge
from nasvit_edge.train.optimise import Average, learning_rate, optimizer_for
from nasvit_edge.train.recipe import load_recipe
from nasvit_edge.train.step import Passes, sandwich


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
            for own, p in zip(self.average, self.parameters, strict=True):
                own.lerp_(p, 1 - self.recipe.run.ema)
        return loss.item()


class Ours:
    """What `nasvit-edge train` does in a step, on batches that are there."""

    def __init__(self, supernet, recipe, threads):
        self.supernet, self.recipe = supernet.to(memory_format=torch.channels_last), recipe
        self.passes = Passes(supernet, recipe, threads=threads)
        self.optimizer = optimizer_for(supernet, recipe.optimizer)
        self.average = Average(self.passes.parameters, recipe.run.ema)
        self.spent = {"passes": 0.0, "merge": 0.0, "update": 0.0}

    def step(self, images, targets, configs, rate, project):
        from nasvit_edge.train.loop import _laid_out

        times = [time.perf_counter()]
        passed = self.passes(images, targets, configs)
        times.append(time.perf_counter())
        merged = merge(passed.largest, passed.subnets, self.recipe.merge, project=project)
        times.append(time.perf_counter())
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        for p, g in zip(self.passes.parameters, merged.gradient, strict=True):
            p.grad = _laid_out(g, p)
        self.optimizer.step()
        self.average.update()
        times.append(time.perf_counter())
        for key, a, b in zip(self.spent, times, times[1:], strict=False):
            self.spent[key] += b - a
        return passed.loss.item()


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
    images, _, _ = training_splits(options.data, space)
    with Loader(
        images, recipe.augment, space, size=max(space.resolutions), batch_size=options.batch_size
    ) as loader:
        batches = [step[0] for step in loader.steps(0, options.steps)]
    compare(space, recipe, batches, options.threads)


def compare(space, recipe, batches, threads):
    first = initialised(space, 0).train()
    plain, ours = Plain(copy.deepcopy(first), recipe), Ours(first, recipe, threads)
    seconds, losses = {"plain": [], "ours": []}, {"plain": [], "ours": []}
    for i, batch in enumerate(batches):
        configs = sandwich(space, recipe.subnets, random.Random(i))
        rate = learning_rate(i, len(batches), len(batch.images), recipe.optimizer, recipe.run)
        order = [("plain", plain), ("ours", ours)]
        for name, who in order if i % 2 else order[::-1]:
            x = batch.images.contiguous() if name == "plain" else batch.images
            torch.set_num_threads(threads)
            start = time.perf_counter()
            losses[name].append(who.step(x, batch.targets, configs, rate, True))
            seconds[name].append(time.perf_counter() - start)
    report(seconds, losses, ours, len(batches[0].images))


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
    whole = sum(ours.spent.values())
    print("where the time goes: " + ", ".join(f"{k} {v / whole:.1%}" for k, v in ours.spent.items()))


if __name__ == "__main__":
    main()
