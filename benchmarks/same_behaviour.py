"""What a change of the house must leave as it is, as JSON to be compared: python benchmarks/same_behaviour.py > after.json

Run it in two checkouts and compare (`diff before.json after.json`): predictions by every shipped table, winners of searches (20 budgets in
each of two spaces, exact and evolved), hashes of what formats convert, and of the weights after 20 steps of training.
"""

import hashlib
import json
import random
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from typer.testing import CliRunner

import nasvit_edge as ne
from nasvit_edge import files
from nasvit_edge.cli import app
from nasvit_edge.export import coreml, onnx, tensorrt, tflite

TABLES = files.shipped("latency_tables")
SEARCHED = {
    "nano": "intel-xeon-6-167-onnxruntime-1t-fp32-nano",
    "nasvit": "intel-xeon-6-167-onnxruntime-1t-fp32-nasvit",
}
BUDGETS = 20


def main() -> None:
    torch.set_num_threads(1)
    content = {
        "predictions": predictions(),
        "searches": searches(),
        "exports": exports(),
        "training": training(),
    }
    json.dump(content, sys.stdout, indent=1, sort_keys=True)
    print()


def run(*words: str) -> str:
    """What a command prints."""
    done = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert done.exit_code in (0, 1), (words, done.stderr)
    return done.stdout


def predictions() -> dict[str, list[str]]:
    """Of smallest, largest and 20 random subnets, to the last digit."""
    by_table = {}
    for path in sorted(TABLES.glob("*.json")):
        table, rng = ne.load_table(str(path)), random.Random(0)
        space = table.space
        subnets = [space.smallest(), space.largest(), *(space.sample(rng) for _ in range(20))]
        by_table[path.stem] = [table.predict(subnet).ms.hex() for subnet in subnets]
    return by_table


def searches() -> dict[str, list[str]]:
    """The winners, by space and method."""
    winners: dict[str, list[str]] = {}
    for name, stem in SEARCHED.items():
        table = ne.load_table(str(TABLES / f"{stem}.json"))
        low, high = (table.predict(subnet).ms for subnet in (table.space.smallest(), table.space.largest()))
        for method in ("exact", "evolutionary"):
            budgets = [low * (high / low) ** (place / BUDGETS) * 1.02 for place in range(BUDGETS)]
            winners[f"{name} {method}"] = [_winner(name, table.path, ms, method) for ms in budgets]
    return winners


def _winner(space: str, table: Path, ms: float, method: str) -> str:
    words = [
        "search",
        "--space",
        space,
        "--table",
        str(table),
        "--latency",
        f"{ms}ms",
        "--method",
        method,
        "--json",
    ]
    words += ["--generations", "10", "--population", "50"] if method == "evolutionary" else []
    with tempfile.TemporaryDirectory() as folder:
        best = json.loads(run(*words, "--out", f"{folder}/search.json"))["best"]
    return _hash(json.dumps([best["config"], best["latency_ms"], best["accuracy"]], sort_keys=True).encode())


def exports() -> dict[str, str]:
    """Of nano's ends, by format."""
    space = ne.load_space("nano")
    supernet = ne.load_supernet("nano", space)
    hashes = {}
    for end in ("smallest", "largest"):
        for form in (onnx, tflite, coreml, tensorrt):
            layout = "NHWC" if form is tflite else "NCHW"
            subnet = ne.fold(ne.materialise(supernet, getattr(space, end)()), layout)
            content = form.convert(subnet, (1, 3, *subnet.size))
            whole = {"": content} if isinstance(content, bytes) else content
            tree = {
                name: data for name, data in whole.items() if not name.endswith("plan")
            }  # NVIDIA's own bytes differ
            hashes[f"{form.__name__.rsplit('.', 1)[-1]} {end}"] = _hash(
                *(part for name in sorted(tree) for part in (name.encode(), tree[name]))
            )
    return hashes


def training() -> str:
    """The weights after 20 steps on noise."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rng = np.random.default_rng(0)
        for split, count in (("train", 20), ("val", 4)):
            for kind in ("a", "b"):
                images = folder / "data" / split / kind
                images.mkdir(parents=True)
                for place in range(count):
                    Image.fromarray(rng.integers(0, 255, (28, 28, 3), np.uint8)).save(images / f"{place}.png")
        out = folder / "run"
        words = [
            "train",
            "--space",
            "nano",
            "--data",
            str(folder / "data"),
            "--out",
            str(out),
        ]
        run(*words, "--epochs", "4", "--batch-size", "8", "--threads", "1", "--workers", "0")
        weights = load_file(out / "supernet.safetensors")
    return _hash(
        *(part for key in sorted(weights) for part in (key.encode(), weights[key].numpy().tobytes()))
    )


def _hash(*parts: bytes) -> str:
    hasher = hashlib.sha256()
    for part in parts:
        hasher.update(part)
    return hasher.hexdigest()[:24]


if __name__ == "__main__":
    main()
