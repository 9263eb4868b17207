"""The training loop: settings, augmentation, checkpoints, resume.

Everything random is a function of (seed, step) or (seed, epoch), so a resumed run continues as if it
had never stopped.
"""

from __future__ import annotations

import io
import json
import math
import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from nasvit_edge import files
from nasvit_edge.data_sets import ImageSet, prepare
from nasvit_edge.errors import CheckpointError, DataError, NasvitEdgeError
from nasvit_edge.model.checkpoint import load_supernet, save_supernet
from nasvit_edge.model.evaluate import calibrated
from nasvit_edge.model.subnet import materialise, statistics
from nasvit_edge.model.supernet import Supernet
from nasvit_edge.space import SearchSpace
from nasvit_edge.train.step import accumulate, sandwich


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """What decides the outcome of a run; kept in its checkpoints and weights."""

    epochs: int = 15
    batch_size: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    warmup: float = 0.05  # share of all steps
    label_smoothing: float = 0.05
    clip: float = 5.0  # norm of the gradient
    random_subnets: int = 2
    shift: int = 2  # pixels, each way
    seed: int = 0
    initial: str = ""  # SHA-256 of the weights to start from; none: the training initialisation


@dataclass(slots=True)
class Progress:
    """Where a run is; handed to the callback after every step."""

    step: int
    steps: int
    loss: float
    distilled: float
    seconds: float


def train(
    space: SearchSpace,
    images: ImageSet,
    settings: TrainSettings,
    out: Path,
    *,
    initial: Path | None = None,
    resume: bool = False,
    on_step: Callable[[Progress], None] = lambda _: None,
    checkpoint_seconds: float = 120.0,
) -> Supernet:
    """Train a supernet and write `out/supernet.safetensors`, with `out/checkpoint.pt` on the way.

    With `initial`, training starts from those weights (a second, shorter cycle often pays).

    Raises:
        CheckpointError: `resume` without a checkpoint, or one of another run.
        NasvitEdgeError: the loss is not finite.
    """
    files.writable_folder(out)
    _check(images, settings)
    if initial is not None:
        settings = replace(settings, initial=files.sha256(initial))
    supernet, optimizer = _start(space, settings, initial)
    step, steps = 0, settings.epochs * (len(images) // settings.batch_size)
    if resume:
        step = _load(out / "checkpoint.pt", supernet, optimizer, space, settings, images)
    elif (out / "checkpoint.pt").exists():
        raise CheckpointError(
            f"{str(out)!r} holds a run already; continue it with --resume or choose another --out"
        )
    saved, whole = time.monotonic(), True
    try:
        while step < steps:
            started = time.monotonic()
            lr = _learning_rate(step, steps, settings)
            loss, distilled = _gradients(supernet, optimizer, images, step, lr, settings)
            whole = False  # an interrupt in here leaves weights that belong to no step
            optimizer.step()
            if not math.isfinite(loss + distilled):
                raise NasvitEdgeError(
                    f"the loss is {loss} at step {step}: training diverged; lower --learning-rate (now {settings.learning_rate})"
                )
            step, whole = step + 1, True
            on_step(Progress(step, steps, loss, distilled, time.monotonic() - started))
            if time.monotonic() - saved > checkpoint_seconds:
                _save(out / "checkpoint.pt", supernet, optimizer, step, space, settings, images)
                saved = time.monotonic()
    finally:
        if step and whole and all(bool(torch.isfinite(p).all()) for p in supernet.parameters()):
            _save(out / "checkpoint.pt", supernet, optimizer, step, space, settings, images)
    settle(supernet, images)
    metadata: dict[str, object] = {
        "kind": "trained",
        "space": space.name,
        "data": images.name,
        "settings": asdict(settings),
    }
    save_supernet(supernet, out / "supernet.safetensors", metadata)
    supernet.source = metadata
    return supernet.eval()


def settle(supernet: Supernet, images: ImageSet) -> None:
    """Give the supernet the largest subnet's statistics, so that its eval mode is of use.

    Training itself keeps none (batch statistics throughout); a subnet is calibrated before use.
    """
    largest = calibrated(materialise(supernet, supernet.space.largest()), images)
    own = dict(supernet.named_buffers())
    with torch.no_grad():
        for name, value in statistics(largest).items():
            own[name].copy_(value)


def _check(images: ImageSet, settings: TrainSettings) -> None:
    if len(images) < settings.batch_size:
        raise DataError(f"{len(images)} images are fewer than one batch of {settings.batch_size}")


def _start(
    space: SearchSpace, settings: TrainSettings, initial: Path | None
) -> tuple[Supernet, torch.optim.Optimizer]:
    torch.manual_seed(settings.seed)
    if initial is None:
        supernet = Supernet(space)
        initialise(supernet)
    else:
        supernet = load_supernet(initial, space)
    supernet.train()
    module: Any = supernet  # torch's own types of `to` differ by version
    module.to(memory_format=torch.channels_last)
    decayed = [p for p in supernet.parameters() if p.dim() > 1]
    plain = [p for p in supernet.parameters() if p.dim() <= 1]
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": plain, "weight_decay": 0.0}]
    return supernet, torch.optim.AdamW(groups, lr=settings.learning_rate, weight_decay=settings.weight_decay)


def initialise(supernet: Supernet) -> None:
    """The training initialisation (spec section 2): framework defaults, the last batch norm of every
    MBConv 0, position tables truncated normal with std 0.02, layer scaling 1e-4 (as built)."""
    for name, parameter in supernet.named_parameters():
        if name.endswith("project.norm.weight"):
            torch.nn.init.zeros_(parameter)
        elif name.endswith("position_table"):
            torch.nn.init.trunc_normal_(parameter, std=0.02)
        elif name.endswith(("mix_logits.weight", "mix_weights.weight")):
            torch.nn.init.kaiming_uniform_(parameter, a=math.sqrt(5))  # as a linear layer


def _gradients(
    supernet: Supernet,
    optimizer: torch.optim.Optimizer,
    images: ImageSet,
    step: int,
    lr: float,
    settings: TrainSettings,
) -> tuple[float, float]:
    pixels, labels = _batch(images, step, settings)
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.zero_grad()
    rng = random.Random(settings.seed * 1_000_003 + step)
    configs = sandwich(supernet, rng, settings.random_subnets)
    x = prepare(pixels, supernet.space).contiguous(memory_format=torch.channels_last)
    losses = accumulate(supernet, x, labels, configs, settings.label_smoothing)
    torch.nn.utils.clip_grad_norm_(supernet.parameters(), settings.clip)
    return losses


def _batch(images: ImageSet, step: int, settings: TrainSettings) -> tuple[Tensor, Tensor]:
    """The images of a step, flipped and shifted at random: a function of (seed, step)."""
    per_epoch = len(images) // settings.batch_size
    epoch, index = divmod(step, per_epoch)
    order = np.random.default_rng([settings.seed, epoch]).permutation(len(images))
    chosen = torch.from_numpy(order[index * settings.batch_size :][: settings.batch_size])
    rng = np.random.default_rng([settings.seed, epoch, index])
    return augment(images.pixels[chosen], settings.shift, rng), images.labels[chosen]


def augment(pixels: Tensor, shift: int, rng: np.random.Generator) -> Tensor:
    """Flip half of the images and move each by up to `shift` pixels; (B, C, H, W) bytes in and out."""
    count, _, height, width = pixels.shape
    padded = F.pad(pixels, (shift,) * 4)
    top, left = (torch.from_numpy(rng.integers(0, 2 * shift + 1, count)) for _ in range(2))
    flip = torch.from_numpy(rng.random(count) < 0.5)
    columns = torch.arange(width).expand(count, -1)
    columns = torch.where(flip[:, None], columns.flip(1), columns) + left[:, None]
    rows = torch.arange(height)[None] + top[:, None]
    moved = padded[torch.arange(count)[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2)


def _learning_rate(step: int, steps: int, settings: TrainSettings) -> float:
    """Linear warm-up, then a cosine to zero."""
    warm = max(1, round(settings.warmup * steps))
    if step < warm:
        return settings.learning_rate * (step + 1) / warm
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def _identity(space: SearchSpace, settings: TrainSettings, images: ImageSet) -> dict[str, Any]:
    return {"space": space.name, "settings": asdict(settings), "data": images.name, "images": len(images)}


def _save(
    path: Path,
    supernet: Supernet,
    optimizer: torch.optim.Optimizer,
    step: int,
    space: SearchSpace,
    settings: TrainSettings,
    images: ImageSet,
) -> None:
    state = {
        "run": json.dumps(_identity(space, settings, images)),
        "step": step,
        "model": supernet.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    buffer = io.BytesIO()
    torch.save(state, buffer)
    files.write_bytes(path, buffer.getvalue())


def _load(
    path: Path,
    supernet: Supernet,
    optimizer: torch.optim.Optimizer,
    space: SearchSpace,
    settings: TrainSettings,
    images: ImageSet,
) -> int:
    if not path.exists():
        raise CheckpointError(f"no run to resume: {str(path)!r} does not exist")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        run, step = json.loads(state["run"]), int(state["step"])
        if run != _identity(space, settings, images):
            changed = [k for k, v in _identity(space, settings, images).items() if run.get(k) != v]
            raise CheckpointError(
                f"{str(path)!r} is another run (different {', '.join(changed)}); use its options or another --out"
            )
        supernet.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    except CheckpointError:
        raise
    except Exception as error:  # noqa: BLE001 - a damaged file can fail in any way
        reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise CheckpointError(f"checkpoint {str(path)!r} is damaged: {reason}") from None
    return step
