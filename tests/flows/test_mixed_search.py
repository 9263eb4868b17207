"""`--precision mixed` from the command line: noise is measured on real files, the winner is exported as it was found."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import require_module
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import COMPOSITION, table
from typer.testing import CliRunner

from nasvit_edge import cache, records
from nasvit_edge.choosing import noises
from nasvit_edge.cli import app
from nasvit_edge.export import artifact, verification
from nasvit_edge.latency.names import table_name
from nasvit_edge.searching.result import read_result
from nasvit_edge.space import load_space

require_module("onnxruntime")
SPACE = load_space("nano")
GENES = ("--gene", "resolution=24", "--gene", "mb1.depth=1", "--gene", "mb2.depth=1")
ASKED = ("search", "--space", "nano", "--precision", "mixed", "--device", "host", "--no-canary", *GENES)


def run(*arguments) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A table of each precision, in which 8 bits are faster; what noise is measured on is small."""
    root = tmp_path_factory.mktemp("mixed")
    (root / "latency_tables").mkdir()
    for seed, precision in enumerate(("fp32", "int8")):
        file = table(SPACE, seed, COMPOSITION, precision=precision).file
        name = table_name(file.device, file.runtime, file.threads, precision, SPACE.name)
        records.write(root / "latency_tables" / name, file)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setattr(cache, "root", lambda: root / "cache")
        patch.setattr(noises, "IMAGES", 200)
        patch.setattr(noises, "SUBNETS", 1)
        patch.setattr("nasvit_edge.choosing.table.concerns", lambda table, configs: ())
        yield root


@pytest.fixture(scope="module")
def searched(home):
    code, printed = run(*ASKED, "--latency", "0.4ms", "--max-loss", "1", "--out", "mixed.json")
    assert code == 0, printed
    return printed


def test_the_winner_has_a_precision_a_stage_and_says_what_they_cost(home, searched):
    file = read_result(home / "mixed.json").file
    assert file.best.precisions == {stage.name: stage.precision for stage in file.stages}
    assert file.setting.precision == file.setting.first().precision == "mixed"
    assert 0 <= file.best.loss <= 0.01
    assert file.method == "exact"
    assert "a precision a stage" in searched
    assert "--confirm" not in searched  # which does not go with it
    assert "one precision for all stages, within the same limits: " in searched
    for one in file.mixed.uniform:
        assert file.best.accuracy >= one.accuracy


def test_noise_is_none_in_fp32_some_in_int8_and_adds_up(home, searched):
    mixed = read_result(home / "mixed.json").file.mixed
    assert {noise["fp32"] for noise in mixed.noise.values()} == {0}
    assert all(0 < noise["int8"] < 0.5 for noise in mixed.noise.values())
    assert 0.5 < mixed.additive < 2


def test_what_was_measured_is_not_measured_again(home, searched, monkeypatch):
    monkeypatch.setattr(noises, "_Measuring", None)
    code, printed = run(*ASKED, "--latency", "0.4ms", "--max-loss", "0.2", "--out", "again.json")
    assert code == 0, printed
    assert read_result(home / "again.json").file.best.loss <= 0.002


def test_the_file_has_the_precisions_that_were_found_and_verifies(home, searched):
    code, printed = run("export", "mixed.json", "--precision", "mixed", "--out", "m.onnx")
    assert code == 0, printed
    best = read_result(home / "mixed.json").file.best
    metadata = artifact.open_artifact(Path("m.onnx")).metadata
    assert metadata["precision"] == "mixed"
    assert json.loads(metadata["mixed"]) == best.precisions
    layers = artifact.open_artifact(Path("m.onnx")).form.module().layers(Path("m.onnx"))
    floats = {layer.name for layer in layers if not layer.product and not layer.int8}
    assert bool(floats) == ("fp32" in best.precisions.values())
    assert verification.verify(Path("m.onnx")).passed
    for command in ("verify", "doctor", "evaluate"):
        more = ("--data", "bundled") if command == "evaluate" else ()
        assert run(command, "m.onnx", *more)[0] == 0
    code, printed = run("explain", "mixed.json")
    assert code == 0, printed
    assert "the search gave stages precisions: first_conv " in " ".join(printed.split())


def test_the_next_command_exports_it_so(searched):
    assert "export mixed.json --format onnx --precision mixed" in " ".join(searched.split())


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--confirm", 2), "--confirm 2 does not go with it"),
        (("--minutes", 1), "--minutes 1.0 does not go with it"),
        (("--max-loss", "much"), "--max-loss is 'much'"),
        (("--max-loss", "-1"), "--max-loss is '-1'"),
        (("--runtime", "tensorrt"), "tensorrt"),
        (("--accuracy", "measured"), "fit a predictor"),
    ],
)
def test_what_does_not_go_with_it_is_refused_in_one_line(home, more, told):
    code, printed = run(*ASKED, "--latency", "1ms", "--out", "no.json", *more)
    assert code == 2
    assert told in " ".join(printed.split())
    assert not (home / "no.json").exists()


def test_a_loss_without_mixing_is_refused(home):
    code, printed = run("search", "--space", "nano", "--latency", "1ms", "--max-loss", "0.5")
    assert code == 2
    assert "--precision mixed" in printed


def test_a_result_of_one_precision_is_not_exported_as_mixed(home):
    code, printed = run("search", "--space", "nano", "--latency", "1ms", "--no-canary", "--out", "one.json")
    assert code == 0, printed
    code, printed = run("export", "one.json", "--precision", "mixed", "--out", "no.onnx")
    assert code == 2
    assert "search with --precision mixed first" in " ".join(printed.split())


def test_a_format_that_cannot_mix_says_which_precisions_it_has(home, searched):
    code, printed = run(
        "export", "mixed.json", "--format", "coreml", "--precision", "mixed", "--out", "m.mlpackage"
    )
    assert code == 2
    assert "no precision 'mixed'" in " ".join(printed.split())


@given(
    right=st.integers(0, 9),
    apart=st.floats(0.5, 20),
    seed=st.integers(0, 10),
)
@settings(max_examples=20)
def test_more_noise_never_gains_much_and_none_costs_nothing(right, apart, seed):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(300, 10)).astype(np.float32)
    labels = np.full(300, right)
    logits[:, right] += np.float32(apart)
    lost = noises.losses(logits, labels)
    assert lost[0] == pytest.approx(0, abs=0.01)
    assert (np.diff(lost) > -0.03).all()
    assert noises.noise(logits, logits) == 0
    assert noises.noise(logits + np.std(logits), logits) == pytest.approx(1, rel=1e-3)
