"""Class folders that are called otherwise than the labels: every command shows the order and asks for it to be confirmed.

The names of the images, and of the folder that they are in, are no UTF-8: that is nothing to any command.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, require_module
from made_up import table
from typer.testing import CliRunner

from nasvit_edge import cache, records
from nasvit_edge.cli import app
from nasvit_edge.searching.fitting import FEWEST
from nasvit_edge.searching.images import ImageAccuracy
from nasvit_edge.searching.result import read_result
from nasvit_edge.space import load_space

require_module("onnxruntime")
ORDER = "p = 0, q = 1, r = 2, s = 3 (folder = label)"
WEIGHTS = ("--supernet", "random:1", "--space", "tiny.toml")
EXPLICIT = (*WEIGHTS, "--config", "small.json")
PHOTOS = "caf\udce9"  # the byte e9, as Python gives it
DATA = ("--data", PHOTOS)
COMMANDS = {
    "evaluate a file": ("evaluate", "m.onnx", *DATA, "--space", "tiny.toml"),
    "evaluate subnets": ("evaluate", *WEIGHTS, *DATA, "--subnets", "min", "--workers", 1),
    "benchmark": ("benchmark", "m.onnx", *DATA, "--space", "tiny.toml", "--rounds", 1, "--seconds", 0.01),
}
LIMITS = ("--latency", "10s", "--table", "table.json", "--generations", 1, "--population", 2)
LONG = {
    "search": ("search", *WEIGHTS, *DATA, "--workers", 1, *LIMITS),
    "fit": ("accuracy", "fit", *WEIGHTS, *DATA, "--samples", FEWEST, "--workers", 1),
}


def run(*arguments) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images, a space whose labels are numbers, an exported file of it and a made-up table."""
    pillow, root = require_module("PIL.Image"), tmp_path_factory.mktemp("labels")
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 2), ("test", 2)):
        for name in "pqrs":
            (root / PHOTOS / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
                pillow.fromarray(pixels).save(root / PHOTOS / split / name / f"\udcff{i}.png")
    (root / "tiny.toml").write_text(TINY)
    space = load_space(root / "tiny.toml")
    (root / "small.json").write_text(json.dumps(space.smallest().to_dict()))
    latencies = table(space)
    records.write(root / "table.json", latencies.file)
    return root


@pytest.fixture(autouse=True)
def here(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(cache, "root", lambda: tmp_path / "cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if not Path("m.onnx").exists():
        code, printed = run("export", *EXPLICIT, "--uncalibrated", "--out", "m.onnx")
        assert code == 0, printed


def refused(arguments) -> None:
    code, printed = run(*arguments)
    assert code == 2
    assert ORDER in printed.splitlines()[-1]
    assert "add --labels-in-order" in printed.splitlines()[-1]


def confirmed(arguments) -> None:
    code, printed = run(*arguments, "--labels-in-order")
    assert code in (0, 3), printed  # 3: a benchmark on a busy machine
    assert "p = 0, q = 1, r = 2, s = 3" in printed
    assert "4 classes: p 2, q 2, r 2, s 2" in printed


@pytest.mark.parametrize("arguments", [*COMMANDS.values(), *LONG.values()], ids=[*COMMANDS, *LONG])
def test_a_command_asks_for_the_order(arguments):
    refused(arguments)


@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS)
def test_a_command_takes_the_order_that_is_confirmed(arguments):
    confirmed(arguments)


@pytest.fixture
def quick(monkeypatch):
    """What is measured is made up, which takes no time; images are loaded as ever."""
    monkeypatch.setattr(ImageAccuracy, "_one", lambda self, config: zlib.crc32(repr(config).encode()) / 2**32)


def test_a_predictor_is_fitted_in_the_order_that_is_confirmed(quick):
    confirmed(LONG["fit"])


def test_a_result_remembers_that_the_order_was_confirmed(quick):
    confirmed(LONG["search"])
    assert read_result(Path("search.json")).setting.labels_in_order
    raw = json.loads(Path("search.json").read_text())
    for order in (True, False):
        raw["setting"]["labels_in_order"] = order
        Path("search.json").write_text(json.dumps(raw))
        assert read_result(Path("search.json")).setting.labels_in_order == order
    del raw["setting"]["labels_in_order"]  # of an earlier version
    Path("search.json").write_text(json.dumps(raw))
    assert not read_result(Path("search.json")).setting.labels_in_order


def test_calibration_needs_no_labels_and_no_order():
    code, printed = run("export", *EXPLICIT, "--calibrate", PHOTOS, "--out", "c.onnx", "--precision", "int8")
    assert code == 0, printed
    assert "caf\\xe9 train (32 images), 4 classes: p 8, q 8, r 8, s 8" in printed


def test_training_takes_the_names_of_the_folders():
    how = ("--epochs", 1, "--batch-size", 8, "--workers", 0, "--threads", 1, "--recipe", "nano")
    code, printed = run("train", "--space", "tiny.toml", *DATA, "--out", "trained", *how)
    assert code == 0, printed
    assert "takes the 4 classes of the data (p, q, r and 1 more)" in printed
    assert "caf\\xe9 val (8 images), 4 classes: p 2, q 2, r 2, s 2" in printed


@pytest.mark.parametrize("how", [(), ("--labels-in-order",)], ids=["not confirmed", "confirmed"])
def test_fine_tuning_gives_a_new_classifier_where_the_order_is_not_confirmed(how):
    out = f"tuned-{len(how)}"
    code, printed = run(
        *("finetune", *EXPLICIT, *DATA, "--out", out, "--epochs", 1, "--batch-size", 8, "--workers", 0),
        *("--threads", 1, *how),
    )
    assert code == 0, printed
    assert load_space(f"{out}/space.toml").label_names() == ["p", "q", "r", "s"]
    if how:
        assert "are taken for the space's: p = 0, q = 1, r = 2, s = 3" in printed
    else:
        assert "a new classifier for 4; if they are the same, called otherwise and in this order" in printed
    weights = ("--supernet", f"{out}/supernet.safetensors", *DATA, "--subnets", "min", "--workers", 1)
    assert run("evaluate", *weights)[0] == 0  # the labels have the folders' names now
