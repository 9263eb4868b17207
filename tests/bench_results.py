"""Benchmark results with known truth: log latency is effect + noise of the round + AR(1) noise in it + drift of the session."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nasvit_edge import records
from nasvit_edge.benchmark.accuracy import Overlaps

ABOUT = {"architecture": "aarch64", "board": "Board", "cores": 4, "os": "Linux 6", "soc": "Chip"}


def samples_us(
    rng: np.random.Generator, ms: float, count: int, *, between: float, within: float, shift: float
) -> list[float]:
    """One round's samples; `within` is the sd of AR(1) noise with a correlation of 0.5."""
    noise = rng.normal(size=count)
    for i in range(1, count):
        noise[i] = 0.5 * noise[i - 1] + np.sqrt(0.75) * noise[i]
    logs = np.log(1e3 * ms) + between * rng.normal() + shift + within * noise
    return [round(float(value), 3) for value in np.exp(logs)]


def artifact(
    rng: np.random.Generator,
    name: str,
    ms: float,
    positions: Sequence[int],
    turns: int,
    *,
    baseline: int | None = None,
    between: float = 0.02,
    within: float = 0.03,
    drift: float = 0.04,
    count: int = 100,
    size: int = 1_400_000,
    memory: float = 3e7,
    hits: Sequence[bool] | None = None,
    overlaps: np.ndarray[Any, Any] | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """An artifact measured at these places of the session's order."""
    rounds = [
        {
            "samples_us": samples_us(
                rng, ms, count, between=between, within=within, shift=drift * position / turns
            ),
            "runtime_version": "1.30.0",
            "load_ms": float(20 * np.exp(0.1 * rng.normal())),
            "warm_load_ms": float(10 * np.exp(0.1 * rng.normal())),
            "first_ms": float(2 * np.exp(0.1 * rng.normal())),
            "memory_bytes": memory * float(np.exp(0.002 * rng.normal())),
            "inner": 1,
            "cpu_share": 1.0,
            "flags": [],
            "round": number,
            "position": position,
        }
        for number, position in enumerate(positions)
    ]
    facts = {"sha256": "0" * 64, "bytes": size, "format": "onnx", "precision": "fp32", "macs": 10_000_000}
    values = {"name": name, "baseline": baseline, "runtime": "onnxruntime", "rounds": rounds}
    if hits is not None:
        packed = base64.b64encode(np.packbits(np.asarray(hits, bool)).tobytes()).decode()
        values["accuracy"] = {
            "data": "images",
            "images": len(hits),
            "top1": float(np.mean(hits)),
            "hits": packed,
        }
    if overlaps is not None:
        values["accuracy"] = records.content(Overlaps("scenes", overlaps).saved())
    return facts | values | changes


def content(
    seed: int = 0,
    effects: Sequence[float] = (0.0,),
    *,
    rounds: int = 8,
    ms: float = 10.0,
    aa: bool = False,
    device: str = "board",
    changes: dict[str, Any] | None = None,
    **noise: Any,
) -> dict[str, Any]:
    """A result: each effect is a candidate so much slower than its own baseline (`model0.onnx` and `main/model0.onnx`).

    `changes` are of every candidate; `noise` goes to `artifact`.
    """
    rng = np.random.default_rng(seed)
    turns = 2 * rounds * len(effects)
    listed: list[dict[str, Any]] = []
    for place, effect in enumerate(effects):
        first, second = [], []
        for number in range(rounds):
            start, width = 2 * len(effects) * number, 2 * len(effects)
            slot = 2 * place if number % 2 == 0 else width - 2 * place - 2
            pair = (start + slot, start + slot + 1)
            first.append(pair[number % 2])
            second.append(pair[1 - number % 2])
        listed.append(artifact(rng, f"main/model{place}.onnx", ms, first, turns, **noise))
        row = artifact(
            rng, f"model{place}.onnx", ms * (1 + effect), second, turns, baseline=2 * place, **noise
        )
        listed.append(row | (changes or {}))
    return {
        "schema": 1,
        "kind": "benchmark",
        "run": {
            "uuid": str(uuid.UUID(int=seed + 1000 * len(effects))),
            "utc": f"2026-01-{1 + seed % 28:02d}T12:00:00+00:00",
            "tool_version": "0.1.0",
            "git_sha": f"{seed:040x}",
            "git_dirty": False,
            "ci_url": None,
        },
        "device": {"name": device, "about": dict(ABOUT), "conditions": {}, "busy_cores": 0.0},
        "protocol": {
            "rounds": rounds,
            "runs": 50,
            "seconds": 0.5,
            "most_seconds": 3.0,
            "precision": 0.02,
            "threads": 1,
            "seed": 0,
            "order": "ABBA",
            "cores": [3],
        },
        "aa": aa,
        "complete": True,
        "stopped": None,
        "artifacts": listed,
    }


def write(path: Path, seed: int = 0, effects: Sequence[float] = (0.0,), **options: Any) -> Path:
    """`content` as a file."""
    path.write_text(json.dumps(content(seed, effects, **options)))
    return path
