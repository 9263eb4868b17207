"""A run's checkpoints: whole or not there, the newest few kept, each of one step of one run.

Nothing random needs to be kept: every random choice is a function of (seed, step, rank), so the step is the
position in the data and in every generator.
"""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from nasvit_edge import files
from nasvit_edge.errors import CheckpointError, NasvitEdgeError

_NAME = re.compile(r"step-(\d{9})\.pt")


class Checkpoints:
    """The folder `out/checkpoints` of the run `identity` (JSON that decides its outcome)."""

    def __init__(self, out: Path, identity: Mapping[str, object], keep: int = 2) -> None:
        self.folder, self.identity, self.keep = out / "checkpoints", json.loads(json.dumps(identity)), keep

    def paths(self) -> list[Path]:
        """Whole checkpoints, the newest first."""
        paths = [p for p in self.folder.glob("step-*.pt") if _NAME.fullmatch(p.name)]
        return sorted(paths, reverse=True)

    def save(self, step: int, state: Mapping[str, Any]) -> Path:
        """Write one, then drop those that are too old."""
        buffer = io.BytesIO()
        torch.save({**state, "step": step, "run": json.dumps(self.identity)}, buffer)
        path = self.folder / f"step-{step:09d}.pt"
        files.write_bytes(path, buffer.getvalue())
        for old in self.paths()[self.keep :]:
            old.unlink(missing_ok=True)
        return path

    def load(self) -> dict[str, Any]:
        """The newest state; a damaged file is passed over where an older one is whole.

        Raises:
            CheckpointError: there is none, none is whole, or it is another run's.
        """
        if not self.paths():
            raise CheckpointError(f"no run to resume: {str(self.folder)!r} holds no checkpoint")
        damage: CheckpointError | None = None
        for path in self.paths():
            try:
                state = _read(path)
            except CheckpointError as error:
                damage = damage or error
                continue
            self._check(path, json.loads(state["run"]))
            return state
        raise damage or CheckpointError(f"{str(self.folder)!r} holds no whole checkpoint")

    def at(self, step: int | None = None) -> dict[str, Any]:
        """The state of a step, of whatever run it is; None: the newest.

        Raises:
            CheckpointError: it is not kept, which names those that are, or it is damaged.
        """
        by_step = {_step_of(path): path for path in self.paths()}
        if not by_step:
            raise CheckpointError(f"{str(self.folder)!r} holds no checkpoint")
        step = max(by_step) if step is None else step
        if step not in by_step:
            there = ", ".join(str(each) for each in sorted(by_step))
            raise CheckpointError(
                f"{str(self.folder)!r} keeps no checkpoint of step {step}; there are {there}"
            )
        return _read(by_step[step])

    def _check(self, path: Path, run: Mapping[str, object]) -> None:
        if run != self.identity:
            changed = [key for key in self.identity if run.get(key) != self.identity[key]]
            was = ", ".join(f"{key} {_short(run.get(key))}" for key in changed)
            raise CheckpointError(
                f"{str(path)!r} is another run's (its {was}); give its options, or another --out"
            )


def refuse_old(out: Path) -> None:
    """CheckpointError where the folder holds a run already: it is not to be lost by a slip."""
    if Checkpoints(out, {}).paths() or (out / "supernet.safetensors").exists():
        raise CheckpointError(
            f"{str(out)!r} holds a run already; continue it with --resume or choose another --out"
        )


def _step_of(path: Path) -> int:
    return int(path.stem.removeprefix("step-"))


def _read(path: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(json.loads(state["run"]), dict) or type(state["step"]) is not int:
            raise ValueError("no state of a run")
        return state
    except Exception as error:  # noqa: BLE001 - a damaged file can fail in any way
        reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise CheckpointError(f"checkpoint {str(path)!r} is damaged: {reason}") from None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def enough_disk(out: Path, state_bytes: int, keep: int) -> None:
    """NasvitEdgeError, before time is spent, where `out` has no room for the checkpoints to keep and one more."""
    needed, free = state_bytes * (keep + 2), shutil.disk_usage(out).free
    if free < needed:
        raise NasvitEdgeError(
            f"{str(out)!r} has {free / 1e6:.0f} MB free; the checkpoints need {needed / 1e6:.0f} MB: make room, or choose another --out"
        )
