"""The training loop: steps, the averaged weights, checkpoints, resume.

Everything random is a function of (seed, step, rank), so a resumed run continues as if it had never stopped.
"""

from __future__ import annotations

import json
import math
import random
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from nasvit_edge import files
from nasvit_edge.data_sets.scenes import SceneSet
from nasvit_edge.errors import CheckpointError
from nasvit_edge.model.accuracy import Batches
from nasvit_edge.model.checkpoint import save_supernet
from nasvit_edge.model.supernet import Supernet
from nasvit_edge.space import SearchSpace, space_toml
from nasvit_edge.train.checkpoints import Checkpoints, enough_disk
from nasvit_edge.train.diagnosis import DivergedError, Watch
from nasvit_edge.train.initial import settle
from nasvit_edge.train.loading import STALLED_S, Loader, Patience, Steps
from nasvit_edge.train.logs import StepRecord
from nasvit_edge.train.making import Batch
from nasvit_edge.train.merge import Gradient, Merged, Products, added, merge
from nasvit_edge.train.optimise import Average, freeze, learning_rate, optimizer_for
from nasvit_edge.train.pixels import class_weights
from nasvit_edge.train.recipe import Recipe
from nasvit_edge.train.scene_loading import SceneLoader
from nasvit_edge.train.step import Passed, Passes, sandwich
from nasvit_edge.train.stopping import AFTER_STOP_S, CalledAway
from nasvit_edge.train.world import World

if TYPE_CHECKING:
    from nasvit_edge.data_sets import Labelled, TrainedOn


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a run is carried out; only `seed` and what `identity` takes decide its outcome."""

    out: Path
    seed: int = 0
    threads: int = 2
    workers: int = 1  # processes that prepare images
    bf16: bool = False
    sync_bn: bool = False
    checkpoint_s: float = 300.0
    keep: int = 2
    stalled_s: float = STALLED_S  # what a batch may take before loading counts as stalled


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What the caller hears: after every step, at the end of every epoch, and whether it wants to stop."""

    on_step: Callable[[StepRecord, Products], None] = lambda record, products: None
    on_epoch: Callable[[int, int, Supernet], None] = lambda step, epoch, averaged: None
    on_save: Callable[[], None] = lambda: None  # before a checkpoint is written
    stop: Callable[[], bool] = lambda: False


class Trainer:
    """One run of a recipe.

    Args:
        supernet: to be trained, in place; its initial values are the run's.
        images: training images, or scenes; the loader crops them to the space's image size, or as the recipe says.
        teacher: images (B, 3, S, S) -> probabilities (B, classes), for the largest subnet.
        trained_on: what the weights it writes are to say of the images that trained them.
        identity: what else decides the outcome (names of teacher and initial weights), for checkpoints.
    """

    def __init__(
        self,
        supernet: Supernet,
        images: Labelled,
        recipe: Recipe,
        settings: Settings,
        world: World,
        *,
        teacher: Callable[[Tensor], Tensor] | None = None,
        identity: dict[str, str] | None = None,
        trained_on: TrainedOn | None = None,
    ) -> None:
        self.trained_on = trained_on
        self.supernet, self.recipe, self.settings, self.world = supernet, recipe, settings, world
        self.space: SearchSpace = supernet.space
        self.teacher = teacher
        module: Any = supernet.train().to(world.device)  # torch's own types of `to` differ by version
        module.to(memory_format=torch.channels_last)
        supernet.ranks = world if settings.sync_bn and world.size > 1 else None
        threads = 1 if settings.sync_bn else settings.threads  # collective calls must come in one order
        images = images.loaded() if isinstance(images, SceneSet) else images  # once for weights and loader
        weights = self._class_weights(images)
        freeze(supernet, recipe.run.frozen)
        self.passes = Passes(supernet, recipe, threads=threads, bf16=settings.bf16, class_weights=weights)
        self.parameters = self.passes.parameters
        self.optimizer = optimizer_for(supernet, recipe.optimizer)
        self.average = Average(self.parameters, recipe.run.ema, ramp=recipe.run.ema_ramp)
        self.loader = loader_for(images, recipe, self.space, settings, world)
        self.per_epoch = self.loader.steps_per_epoch
        self.steps = recipe.run.epochs * self.per_epoch
        self.identity = self._identity(images, identity or {})
        self.checkpoints = Checkpoints(settings.out, self.identity, settings.keep)
        self.step = 0  # done
        self._whole = True

    def _class_weights(self, images: Labelled) -> Tensor | None:
        balance = self.recipe.loss.balance
        if not balance or not isinstance(images, SceneSet):
            return None
        return class_weights(images, self.space.classes, balance).to(self.world.device)

    def _identity(self, images: Labelled, more: dict[str, str]) -> dict[str, object]:
        s, images_a_step = self.settings, self.recipe.run.batch_size * self.world.size
        fields = {"space": self.space.name, "space content": zlib.crc32(space_toml(self.space).encode())}
        fields |= {"data": images.name, "images": len(images), "seed": s.seed}
        fields |= {
            "images a step": images_a_step,
            "processes": self.world.size,
            "sync-bn": s.sync_bn,
            "bf16": s.bf16,
        }
        return {"recipe": self.recipe.to_dict(), **fields, **more}

    # -- start and end ------------------------------------------------------------------------------

    def resume(self) -> int:
        """Go to the newest checkpoint; returns its step."""
        return self._load(self.checkpoints.load())

    def fork(self, out: Path, step: int | None = None) -> int:
        """Go to a checkpoint of another run (None: its newest), and on by this one's recipe; returns its step.

        Weights, the optimizer's moments, the average and the order of the data are that run's.

        Raises:
            CheckpointError: there is none, or the run is of another space, of other data, seed or number of images a step.
        """
        state = Checkpoints(out, {}).at(step)
        run, here = json.loads(state["run"]), json.loads(json.dumps(self.identity))
        for key in ("space content", "data", "images", "seed", "images a step"):
            if run.get(key) != here[key]:
                raise CheckpointError(
                    f"run {str(out)!r} cannot be forked with another {key.removesuffix(' content')}: there it is {run.get(key)!r}, here {here[key]!r}"
                )
        was, kind = run.get("recipe", {}).get("optimizer", {}).get("kind"), self.recipe.optimizer.kind
        if was != kind:
            raise CheckpointError(
                f"run {str(out)!r} was trained by {was}, whose state a fork keeps: leave optimizer.kind as it is"
            )
        rules = [{k: v for k, v in group.items() if k != "params"} for group in self.optimizer.param_groups]
        self._load(state)
        for group, rule in zip(self.optimizer.param_groups, rules, strict=True):
            group.update(rule)
        return self.step

    def _load(self, state: dict[str, Any]) -> int:
        try:
            self.supernet.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.average.load([value.to(self.world.device) for value in state["average"]])
            self.step = state["step"]
        except (KeyError, ValueError, RuntimeError, TypeError, AttributeError) as error:
            reason = str(error).splitlines()[0][:160]
            raise CheckpointError(
                f"checkpoint of step {state['step']} does not fit the run: {reason}"
            ) from None
        return self.step

    def save(self) -> None:
        """A checkpoint of this moment, by the first process alone."""
        if self.world.rank == 0 and self.step:
            state = {"model": self.supernet.state_dict(), "optimizer": self.optimizer.state_dict()}
            self.checkpoints.save(self.step, {**state, "average": self.average.state()})

    def averaged(self) -> Supernet:
        """A copy of the supernet with the averaged weights."""
        average = Supernet(self.space, self.supernet.scaling).to(self.world.device)
        average.load_state_dict(self.supernet.state_dict())
        with torch.no_grad():
            trained = [
                parameter
                for parameter, p in zip(average.parameters(), self.supernet.parameters(), strict=True)
                if p.requires_grad
            ]
            for parameter, value in zip(trained, self.average.weights, strict=True):
                parameter.copy_(value)
        average.trained_on = self.trained_on
        average.source = {"kind": "trained", **self.identity, "step": self.step}
        return average.eval()

    # -- running ------------------------------------------------------------------------------------

    def run(self, watched: Watched) -> bool:
        """Train to the end; False where `watched.stop` ended it before. A checkpoint is left either way."""
        enough_disk(self.settings.out, _state_bytes(self.parameters, self.recipe), self.settings.keep)
        watch, saved = Watch(self), time.monotonic()
        steps = self.loader.steps(self.step, self.steps, self._patience(watched))
        try:
            self.world.same_start(self.supernet)
            while self.step < self.steps:
                record, products = self.advance(steps, watch)
                watched.on_step(record, products)
                if self.step % self.per_epoch == 0:
                    watched.on_epoch(self.step, self.step // self.per_epoch, self.averaged())
                    self.supernet.train()
                if self.world.agreed(watched.stop()):
                    return self.step == self.steps
                if self.world.agreed(time.monotonic() - saved > self.settings.checkpoint_s):
                    watched.on_save()
                    self.save()
                    saved = time.monotonic()
        except CalledAway:  # it was waiting: for images, for a validation, for another process
            return self.step == self.steps
        except DivergedError:
            self._whole = False  # what led here is of no use: earlier checkpoints are
            raise
        finally:
            if self._whole:
                watched.on_save()
                self.save()
            self.close()
        return True

    def _patience(self, watched: Watched) -> Patience:
        """Alone it leaves a wait at once; of several processes each gives the others time to come to the same step."""
        after_stop_s = AFTER_STOP_S if self.world.size > 1 else 0.0
        return Patience(
            stop=watched.stop,
            after_stop_s=after_stop_s,
            stalled_s=self.settings.stalled_s,
            advice="see that it does, then go on with --resume (slower ones are waited for with --stall-minutes)",
        )

    def close(self) -> None:
        """End the threads and the loader's processes."""
        self.loader.close()
        self.passes.close()

    def advance(self, steps: Iterator[list[Batch]], watch: Watch) -> tuple[StepRecord, Products]:
        """One step, with the next batches of `steps`."""
        started, waited = time.monotonic(), self.loader.waited_s
        epoch = self.step // self.per_epoch
        rate = self.rate()
        passed = self._passed(next(steps))
        project = self.recipe.merge.project and epoch >= self.recipe.merge.project_from_epoch
        merged = merge(passed.largest, passed.subnets, self.recipe.merge, project=project)
        losses = self.world.mean(torch.stack([passed.loss, passed.distilled])).tolist()
        watch(losses, merged, passed)
        self._whole = False  # an interrupt in here leaves weights that belong to no step
        self._update(merged, rate)
        self.step, self._whole = self.step + 1, True
        seconds, waited = time.monotonic() - started, self.loader.waited_s - waited
        return self._record(losses, merged.products, rate, seconds, waited), merged.products

    def _passed(self, batches: list[Batch]) -> Passed:
        """g_T and g_S of a step: the mean over its parts and over all processes."""
        rng = random.Random(self.settings.seed * 1_000_003 + self.step)
        configs = sandwich(self.space, self.recipe.subnets, rng, single=self.recipe.single)
        largest: Gradient | None = None
        subnets: Gradient = []
        losses: list[Tensor] = []
        for part, batch in enumerate(batches):
            torch.manual_seed(self._seed(self.world.rank * len(batches) + part))  # of dropout
            images, targets = batch.images.to(self.world.device), batch.targets.to(self.world.device)
            taught = None if self.teacher is None else self.teacher(images)
            passed = self.passes(images, targets, configs, taught)
            losses.append(torch.stack([passed.loss, passed.distilled]))
            largest = passed.largest if largest is None else added(largest, passed.largest)
            subnets = passed.subnets if not subnets else added(subnets, passed.subnets)
        assert largest is not None
        loss, distilled = torch.stack(losses).mean(0)
        largest, subnets = (self.world.averaged(_shared(g, len(batches))) for g in (largest, subnets))
        return Passed(largest, subnets, loss, distilled)

    def _seed(self, part: int) -> int:
        return ((self.settings.seed * 1_000_003 + self.step) * 4_099 + part) % 2**63

    def rate(self) -> float:
        """The learning rate of the next step."""
        images = self.recipe.run.batch_size * self.world.size
        return learning_rate(self.step, self.per_epoch, images, self.recipe.optimizer, self.recipe.run)

    def _update(self, merged: Merged, rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("factor", 1.0)  # older checkpoints do not say
        for parameter, gradient in zip(self.parameters, merged.gradient, strict=True):
            parameter.grad = _laid_out(gradient, parameter)
        self.optimizer.step()
        self.average.update(self.step + 1)

    def _record(
        self, losses: list[float], products: Products, rate: float, seconds: float, waited: float
    ) -> StepRecord:
        seconds = max(seconds, 1e-9)
        subnets, largest = float(products.subnets.sum()), float(products.largest.sum())
        shared = (products.subnets > 0) & (products.largest > 0)
        negative = float((products.dot[shared] < 0).float().mean()) if bool(shared.any()) else 0.0
        return StepRecord(
            step=self.step,
            epoch=(self.step - 1) // self.per_epoch,
            loss=losses[0],
            distilled=losses[1],
            learning_rate=rate,
            norm_largest=math.sqrt(largest),
            norm_subnets=math.sqrt(subnets),
            negative=negative,
            images_per_s=self.recipe.run.batch_size * self.world.size / seconds,
            waited=waited / seconds,
        )


def _shared(gradient: Gradient, parts: int) -> Gradient:
    return gradient if parts == 1 else [None if g is None else g / parts for g in gradient]


def _laid_out(gradient: Tensor | None, parameter: Tensor) -> Tensor | None:
    """`gradient` with the strides of its parameter, as a fused optimizer takes for granted."""
    if gradient is None or gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter).copy_(gradient)


def _state_bytes(parameters: Sequence[Tensor], recipe: Recipe) -> int:
    """Of a checkpoint: weights, the optimizer's one or two moments, the average."""
    weights = sum(p.numel() * p.element_size() for p in parameters)
    return weights * (1 + (2 if recipe.optimizer.kind == "adamw" else 1) + (1 if recipe.run.ema else 0))


def loader_for(
    images: Labelled, recipe: Recipe, space: SearchSpace, settings: Settings, world: World
) -> Steps:
    """Batches of a recipe: images at the space's image size, or crops of scenes."""
    parts = recipe.run.parts
    rule: dict[str, Any] = {
        "batch_size": recipe.run.batch_size // parts,
        "parts": parts,
        "seed": settings.seed,
    }
    rule |= {"rank": world.rank, "world": world.size, "workers": settings.workers}
    if not isinstance(images, SceneSet):
        return Loader(images, recipe.augment, space, size=space.image_size, **rule)
    return SceneLoader(images, recipe.scenes, space, size=recipe.scenes.size(space), **rule)


def finish(trainer: Trainer, calibration: Batches) -> Supernet:
    """Write `supernet.safetensors` with the averaged weights and the largest subnet's statistics."""
    supernet = trainer.averaged()
    settle(supernet, calibration)
    if trainer.world.rank == 0:
        path = trainer.settings.out / "supernet.safetensors"
        save_supernet(supernet, path, supernet.source)
        supernet.source["sha256"] = files.sha256(path)
    trainer.world.barrier()
    return supernet
