"""The weights of a file that a user names reach everything that reads weights, and every cache and result tells them apart."""

from __future__ import annotations

import dataclasses
import inspect
import json
import pickle
from pathlib import Path
from typing import Annotated, Any

import pytest
import torch
import typer
from conftest import one_line
from typer.testing import CliRunner

from nasvit_edge import cache, files
from nasvit_edge.choosing.accuracy import of_other_weights
from nasvit_edge.choosing.space import space_of
from nasvit_edge.cli import app
from nasvit_edge.cli.adapter import adapted
from nasvit_edge.errors import NasvitEdgeError, SpaceError, VerifyError
from nasvit_edge.export import kept, verification
from nasvit_edge.export.formats import load_format
from nasvit_edge.export.writing import Options
from nasvit_edge.flows import export
from nasvit_edge.listening import SILENT, Listener
from nasvit_edge.model.checkpoint import load_supernet, random_supernet, save_supernet
from nasvit_edge.model.published import published_state
from nasvit_edge.model.supernet import Supernet
from nasvit_edge.searching.accuracy import load_accuracy
from nasvit_edge.searching.images import Source, accuracy_store
from nasvit_edge.space import load_space
from nasvit_edge.train import run as training
from nasvit_edge.train.initial import started
from nasvit_edge.train.loop import Settings
from nasvit_edge.train.recipe import load_recipe

NANO = load_space("nano")
NAMES = ("student", "teacher")


@pytest.fixture(scope="module")
def parts() -> dict[str, Supernet]:
    """The shipped weights, and others."""
    return {"student": load_supernet("nano", NANO), "teacher": random_supernet(NANO, 1)}


@pytest.fixture(scope="module")
def two(parts, tmp_path_factory) -> str:
    """A file in which two sets of weights fit, and none is an average."""
    path = tmp_path_factory.mktemp("two") / "two.pth"
    torch.save({name: published_state(supernet) for name, supernet in parts.items()}, path)
    return str(path)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "root", lambda: tmp_path / "cache")


def same(first: Supernet, second: Supernet) -> bool:
    one, two = first.state_dict(), second.state_dict()
    return all(torch.equal(one[n], two[n]) for n in one)


# -- the option ---------------------------------------------------------------------------------------


def _commands(group: Any, name: str = "") -> dict[str, Any]:
    commands = {}
    for part, command in getattr(group, "commands", {}).items():
        commands |= _commands(command, f"{name} {part}") or {f"{name} {part}".strip(): command}
    return commands


def test_every_command_that_takes_weights_takes_their_key():
    commands = _commands(typer.main.get_command(app))
    taking = {name: [p.name for p in c.params] for name, c in commands.items()}
    taking = {name: names for name, names in taking.items() if "supernet" in names}
    assert set(taking) >= {"search", "export", "verify", "evaluate", "accuracy fit", "finetune", "train"}
    for name, names in taking.items():
        assert names.index("weights_key") == names.index("supernet") + 1, name


def test_the_key_joins_the_file_that_it_is_of(capsys):
    @dataclasses.dataclass
    class Asked:
        supernet: Annotated[str | None, typer.Option()] = None
        seed: Annotated[int, typer.Option()] = 0

    asked = []

    def run(request, as_json):
        asked.append((request.supernet, request.seed))

    run.__annotations__["request"] = Asked
    command, rest = adapted(run), {"seed": 3, "as_json": False}
    command(supernet="a.pth", weights_key="ema", **rest)
    command(supernet="a.pth", weights_key=None, **rest)
    assert asked == [("a.pth::ema", 3), ("a.pth", 3)]
    assert list(inspect.signature(command).parameters) == ["supernet", "weights_key", "seed", "as_json"]
    with pytest.raises(SystemExit):
        command(supernet=None, weights_key="ema", **rest)
    said = capsys.readouterr().err
    assert "--supernet FILE" in said
    assert said.count("\n") == 1


def test_the_program_takes_it_and_lists_what_there_is_without(two):
    common = ["evaluate", "--supernet", two, "--space", "nano", "--subnets", "min", "--workers", "1"]
    common += ["--calibration-images", "64"]
    result = CliRunner().invoke(app, common)
    assert result.exit_code == 2
    assert "'student', 'teacher' all fit space 'nano'" in result.stderr
    assert result.stderr.count("\n") == 1
    result = CliRunner().invoke(app, [*common, "--weights-key", "student", "--json"])
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["supernet"] == f"{two}::student"
    assert report["weights"]["weights_key"] == "student"
    assert report["subnets"][0]["accuracy"] > 0.8


# -- where it goes ------------------------------------------------------------------------------------


def test_worker_processes_load_the_weights_that_were_named(two, parts):
    for name in NAMES:
        sent = pickle.loads(pickle.dumps(Source(f"{two}::{name}", NANO, "bundled")))
        assert same(sent.loaded().supernet, parts[name])


def test_training_starts_from_the_weights_that_were_named(two, parts, tmp_path):
    initial = {}
    for name in NAMES:
        request = training.TrainingRequest(
            space="nano",
            data="fashion-mnist",
            recipe=load_recipe("nano"),
            settings=Settings(out=tmp_path),
            weights=f"{two}::{name}",
        )
        supernet, initial[name] = training._initial(request, NANO, SILENT)
        assert same(supernet, parts[name])
    assert len(set(initial.values())) == 2  # a run of one cannot be resumed with the other


def test_a_note_says_which_were_taken_where_none_were_named(parts, tmp_path):
    state = {"model": published_state(parts["teacher"]), "model_ema": published_state(parts["student"])}
    torch.save(state, tmp_path / "c.pth")
    notes: list[str] = []
    assert same(
        started(str(tmp_path / "c.pth"), NANO, 0, listener=Listener(note=notes.append)),
        parts["student"],
    )
    assert "'model_ema', which are averaged" in notes[0]


def test_what_was_chosen_in_one_file_is_not_said_of_the_next(two, tmp_path):
    first = load_supernet(f"{two}::student", NANO)
    save_supernet(first, tmp_path / "next.safetensors", first.source | {"note": "weights: ..."})
    assert not {"weights_key", "note"} & set(load_supernet(tmp_path / "next.safetensors", NANO).source)


@pytest.fixture
def request_for(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(NANO.smallest().to_dict()))

    def make(supernet: str, out: str) -> export.Request:
        return export.Request(
            space="nano",
            supernet=supernet,
            config=tmp_path / "config.json",
            uncalibrated=True,
            out=tmp_path / out,
            overwrite=True,
        )

    return make


def test_an_export_is_of_the_weights_that_were_named_and_verifies_with_them_only(two, request_for, tmp_path):
    notes: list[str] = []
    export.export(request_for(f"{two}::student", "s.onnx"), Listener(note=notes.append))
    written = export.export(request_for(f"{two}::teacher", "t.onnx"), Listener(note=notes.append))
    assert not written.cached
    assert export.export(request_for(f"{two}::student", "again.onnx"), Listener(note=notes.append)).cached
    assert verification.verify(tmp_path / "s.onnx", weights=f"{two}::student").passed
    with pytest.raises(VerifyError, match="those under 'student'") as caught:
        verification.verify(tmp_path / "s.onnx", weights=f"{two}::teacher")
    one_line(caught)


@pytest.fixture(scope="module")
def measured() -> Any:
    return Source("random", NANO, "bundled").loaded()


def test_no_cache_takes_one_part_of_a_file_for_another(two, measured):
    names = [two, *(f"{two}::{name}" for name in NAMES)]
    form = load_format("onnx")
    keys = [kept.export_key(NANO, n, NANO.smallest(), None, form, Options()) for n in names]
    stores = [accuracy_store(NANO, n, measured) for n in names]
    assert len(set(keys)) == len(set(stores)) == 3


def test_a_changed_file_is_another_whatever_part_of_it_is_named(two, measured, tmp_path):
    path = tmp_path / "w.pth"
    path.write_bytes(Path(two).read_bytes())
    before = accuracy_store(NANO, f"{path}::student", measured)
    path.write_bytes(path.read_bytes() + b"\0")
    assert accuracy_store(NANO, f"{path}::student", measured) != before


def test_a_predictor_knows_the_part_that_it_was_fitted_to(two, tmp_path):
    raw = files.read_json(files.data("accuracy", "nano.json"), "predictor")
    raw |= {"weights_sha256": files.sha256(Path(two)), "weights_key": "student"}
    (tmp_path / "p.json").write_text(json.dumps(raw))
    predictor = load_accuracy(tmp_path / "p.json")
    assert not of_other_weights(predictor, f"{two}::student")
    assert of_other_weights(predictor, f"{two}::teacher")
    (tmp_path / "p.json").write_text(json.dumps(raw | {"weights_key": 3}))
    with pytest.raises(NasvitEdgeError, match="weights_key") as caught:
        load_accuracy(tmp_path / "p.json")
    one_line(caught)


# -- the space ----------------------------------------------------------------------------------------


def test_weights_that_do_not_say_their_space_are_told_by_their_keys(two):
    with pytest.raises(SpaceError, match="those of 'nano' or 'nano-cifar10'") as caught:
        space_of(two, None)
    assert "add --space" in one_line(caught)
    assert space_of(f"{two}::student", "nano") == NANO


def test_a_run_s_space_stands_beside_its_weights_also_where_a_part_is_named(two, tmp_path):
    save_supernet(random_supernet(NANO), tmp_path / "supernet.safetensors", {"space": "nano"})
    assert space_of(str(tmp_path / "supernet.safetensors"), None) == NANO
    (tmp_path / "space.toml").write_text(files.data("spaces", "nano-cifar10.toml").read_text())
    assert space_of(f"{tmp_path / 'supernet.safetensors'}::x", None).name == "nano-cifar10"
