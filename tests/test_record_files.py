"""What is read from files is a record or one line: whatever part of a good file is another, and what is written again is equal."""

from __future__ import annotations

import copy
import json
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import bench_results
import numpy as np
import pytest
from conftest import only_user_errors
from grammar_spaces import space_with
from history_points import points
from hypothesis import given
from hypothesis import strategies as st
from made_up import SETTING, result_of
from msgspec import inspect

from nasvit_edge import files, records
from nasvit_edge.benchmark.budgets import BudgetFile
from nasvit_edge.benchmark.history import read_history
from nasvit_edge.benchmark.report import make_report
from nasvit_edge.benchmark.result import BenchmarkFile
from nasvit_edge.benchmark.result import read_result as read_benchmark
from nasvit_edge.benchmark.verdicts import Rule
from nasvit_edge.data_sets.trained_on import TrainedOn, TrainingSet
from nasvit_edge.device import parse_device
from nasvit_edge.export.sidecar import Checked, read_sidecar
from nasvit_edge.searching.accuracy import PredictorFile, load_accuracy
from nasvit_edge.searching.result import read_result
from nasvit_edge.space import SearchSpace, load_space, parse_space, space_toml
from nasvit_edge.train.recipe import load_recipe, parse_recipe

DEVICE = files.shipped("devices") / "linux-ssh" / "device.toml"
EXTRA = {"tool": "trtexec", "port": 22, "threads": 4, "cores": [4, 5], "client": ""}


class Kind(NamedTuple):
    """A kind of file: what a good one holds, and how it is read."""

    good: Any
    read: Callable[[Any], Any]
    rewritten: Callable[[Any], Any] | None = None


def plain(record: Any) -> Any:
    """A record as its file has it."""
    return json.loads(json.dumps(records.content(record)))


def written(name: str, value: Any) -> Path:
    """A JSON file with a value."""
    path = Path(tempfile.mkdtemp(prefix="records")) / f"a file {name}"
    path.write_text(json.dumps(value))
    return path


def _result() -> Any:
    """A result with every part."""
    space = load_space("nano")
    saved = result_of(SETTING, space.smallest(), 1.5, 0.9)
    stage = {"name": "mb1", "blocks": ["mbconv"], "side": 8, "width": 16, "genes": {"depth": 1}, "macs": 9}
    stage |= {"latency_ms": 0.5, "latency_share": 0.3, "parameters": 5, "parameter_share": 0.1}
    names = ("latency_ms", "accuracy", "faster", "better", "accuracy_error", "better_above")
    best = plain(saved.best)
    row = best | {"median_ms": 1.4, "p90_ms": 1.6, "inside": True}
    fields = {"recipe": {"name": "x"}, "teacher": None, "before": {"fp32": 0.1}, "after": {"fp32": 0.2}}
    fields |= {"from": {"result": "a.json", "space": "nano", "supernet": "nano"}}
    setting = plain(saved)["setting"]
    return plain(saved) | {
        "setting": setting | {"tables": [table | {"setting": BY_TABLE} for table in setting["tables"]]},
        "today": [None, TODAY],
        "space": space_toml(space),
        "limits": [{"name": "--latency", "quantity": "latency 0", "bound": 2.0, "factor": 1.0}],
        "gap": {"accuracy": 0.001, "hypervolume": 0.99},
        "genes": {"mb1 depth": [1, 2]},
        "same_macs": {"count": 40, "latency_error": None, "faster_above": None} | dict.fromkeys(names, 0.1),
        "stages": [stage, stage | {"side": [8, 16]}],
        "quality": "mean IoU",
        "outdated": [{}, {"table": "t.json", "ops": 1, "share": 0.1}],
        "confirmation": {"by": "p90", "rounds": 1, "factor": 1.01, "subnets": [row]},
        "finetuned": fields | {"quantised": "int8", "latency_is_for_classes": 10},
        "command": ["nasvit-edge", "search"],
        "budget_ms": 2.0,
    }


def _read_result(value: Any) -> Any:
    return read_result(written("r.json", value))


def _read_sidecar(value: Any) -> Any:
    return read_sidecar(written("m.onnx.json", value).with_name("a file m.onnx"))


def _history(value: Any) -> Any:
    (point,) = read_history(written("h.jsonl", value))
    return point


def _reported(value: Any) -> Any:
    path = written("b.json", value)
    report = make_report([read_benchmark(path)], Rule())
    json.dumps(report.to_dict(), allow_nan=False)
    assert report.exit_code in (0, 1, 3)
    return records.read(BenchmarkFile, path, "a file")


def _check() -> Checked:
    """With all figures, of a segmenter."""
    shares = dict.fromkeys(("int8_macs", "int8_layer_macs", "weights_8bit_macs"), 0.9)
    figures = dict.fromkeys(("error", "snr_db", "agreement", "top1", "top1_drop"), 0.5)
    ious = {"mean_iou": 0.5, "pixel_accuracy": 0.7, "ious": {"sky": 0.5, "road": None}}
    changes = dict.fromkeys(("change", "snr_db", "agreement", "plain_change"), 0.5)
    scenes = {"data": "x", "images": 3, "masks": ["all sky"], "reference": ious, "mean_iou_drop": -0.1} | ious
    more = {
        "top1_drop_interval": [-0.1, 0.1],
        "arithmetic": shares | {"layers": 3, "int8_layers": 2, "float_layers": ["a"]},
        "reproduction": changes | {"same_machine": True, "saturates": False},
        "doubts": ["few"],
        "allowed": {"error": None, "snr_db": 30.0},
    }
    segmenter = {"pixels": 0.9, "pixel_count": 9, "scenes": scenes, "output": "labels"}
    return records.parse(Checked, {"passed": True, "seed": 0} | figures | more | segmenter, "a file")


BY_TABLE = {"device": "host", "runtime": "onnxruntime", "runtime_version": "1.32.0", "threads": 2}
BY_TABLE |= {"precision": "fp32", "machine": "Chip", "date": "2026-01-02", "imported": False}
TODAY = {"factor": 1.1, "noise": 0.05, "models": 3}
BENCHMARK = bench_results.content(0, (0.0,), rounds=1, count=2, hits=[True, False, True])
for _artifact in BENCHMARK["artifacts"]:
    _artifact |= {"predicted_by": BY_TABLE, "today": TODAY}
    _artifact |= {"predicted_ms": [1.0, 0.9, 1.1], "fallback_ops": 0, "int8_macs": 0.5, "path": "a"}
    _artifact |= {"space": "nano", "config": "{}"}
BUDGETS = {"device": "*", "latency_p50": "20ms", "size": {"max": "12MB", "level": "warn"}, "fallback_ops": 0}


SEARCHED = {"predicted_ms": 1.5, "accuracy": 0.9, "device": "host", "runtime": "onnxruntime", "threads": 1}
SEARCHED |= {"precision": "fp32", "accuracy_source": "x", "accuracy_uncertainty": 0.01}
SIDECAR = {"schema": 2, "format": "onnx", "precision": "fp32", "sha256": "0" * 64, "bytes": 9}
SIDECAR |= {"reference_sha256": "1" * 64, "metadata": {"space": "nano"}, "check": plain(_check())}
SIDECAR |= {
    "kept_in_float": ["a"],
    "versions": {"numpy": "2"},
    "forced": ["off"],
    "trained_on": plain(TrainedOn((TrainingSet("x", "files", np.array([1, 9], np.uint32)),)).saved()),
}
SIDECAR |= {"search": SEARCHED | {"table_sha256": "2" * 64}}


def _space_file(space: SearchSpace) -> Any:
    return tomllib.loads(space_toml(space))


SPACE = space_with(
    {
        "width": "same",
        "kernel_size": [[3, 5], [3]],
        "expand_ratio": 2.5,
        "se": [0, 1],
        "shortcut": "identity",
    },
    {"depth": 2, "counts_first": False, "activation": "relu6"},
    {
        "mlps": [1, 2],
        "mlp_ratio": 2,
        "mixing": "none",
        "norm": "token",
        "bias": False,
        "scaling": False,
        "window": 5,
    },
    {"kind": "pooled", "width": [8]},
    {"activation": "hard_swish", "squeeze": {"of": "input", "gate": "sigmoid"}, "widths_rise": True},
)


def _predictor(value: Any) -> Any:
    """What is possible still rises and is a fraction."""
    path, space = written("p.json", value), load_space("nano")
    predictor = load_accuracy(path, space)
    assert 0 < predictor(space.smallest()) <= predictor(space.largest()) < 1
    return records.read(PredictorFile, path, "a file")


PREDICTOR = files.read_json(files.data("accuracy", "nano.json"), "predictor")
del PREDICTOR["validation"]  # which says how it was made
PREDICTOR |= {"space_digest": load_space("nano").digest(), "quality": "accuracy", "weights_key": "x"}


KINDS = {
    "recipe": Kind(
        load_recipe("nano").to_dict(), lambda value: parse_recipe(value, "a file"), lambda r: r.to_dict()
    ),
    "accuracy predictor": Kind(PREDICTOR, _predictor, plain),
    "space": Kind(_space_file(SPACE), lambda value: parse_space(value, Path("a file")), _space_file),
    "sidecar": Kind(SIDECAR, _read_sidecar, plain),
    "benchmark result": Kind(BENCHMARK, _reported, plain),
    "history": Kind(records.content(points([10.0])[0]), _history, plain),
    "budgets": Kind(
        {"schema": 1, "budget": [BUDGETS, {"top1_drop": "1%", "fallback_ops": {"max": 3}}]},
        lambda value: records.parse(BudgetFile, value, "a file"),
        plain,
    ),
    "search result": Kind(_result(), _read_result, lambda saved: plain(saved.file)),
    "device": Kind(
        files.read_toml(DEVICE, "device") | EXTRA, lambda value: parse_device(value, Path("a file"))
    ),
}
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([2**63, 10**400, -1, 0, float("nan"), float("inf"), -0.0, 1e308]),
    st.floats(),
    st.text(max_size=4),
    st.sampled_from(["-oProxyCommand=x", "../x", "a\n", "\x00", "\udcff", "x" * 5000]),
    st.lists(st.integers() | st.text(max_size=2), max_size=2),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
)


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a value but the whole."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inner:
        yield (*at, key)
        yield from places(part, (*at, key))


def changed(good: Any, place: tuple[Any, ...], value: Any, how: str) -> Any:
    """`good` with another value at a place, nothing there, or one more key beside it."""
    copy_of = copy.deepcopy(good)
    holder = copy_of
    for key in place[:-1]:
        holder = holder[key]
    if how == "without":
        del holder[place[-1]]
    elif how == "more" and isinstance(holder, dict):
        holder["more"] = value
    else:
        holder[place[-1]] = value
    return copy_of


@pytest.mark.parametrize("name", KINDS)
def test_a_good_file_is_read_and_written_again_as_it_was(name):
    kind = KINDS[name]
    record = kind.read(kind.good)
    assert kind.rewritten is None or kind.rewritten(record) == kind.good


@pytest.mark.parametrize("name", KINDS)
@given(st.data())
def test_a_changed_file_is_a_record_or_one_line(name, data):
    kind = KINDS[name]
    place = data.draw(st.sampled_from(sorted(places(kind.good), key=repr)), "place")
    how = data.draw(st.sampled_from(["other", "other", "without", "more"]), "how")
    value = changed(kind.good, place, data.draw(VALUES, "value"), how)
    outcome = only_user_errors(kind.read, value)
    if isinstance(outcome, str):
        assert "a file" in outcome
        assert len(outcome) < 1000
    elif kind.rewritten is not None:
        again = kind.rewritten(outcome)
        assert kind.rewritten(kind.read(again)) == again


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("value", [[], "x", None, 1, {}], ids=repr)
def test_what_is_no_file_of_the_kind_is_one_line(name, value):
    assert "a file" in only_user_errors(KINDS[name].read, value)


def records_of(kind: type = records.Record) -> Iterator[type]:
    for inner in kind.__subclasses__():
        yield from (inner, *records_of(inner))


def unions(kind: inspect.Type) -> Iterator[inspect.UnionType]:
    """The unions in a type, but for those of other records."""
    if isinstance(kind, inspect.UnionType):
        yield kind
    inner = [getattr(kind, name, None) for name in ("type", "item_type", "key_type", "value_type")]
    inner += [*getattr(kind, "types", ()), *getattr(kind, "item_types", ())]
    for part in inner:
        if isinstance(part, inspect.Type):
            yield from unions(part)


def test_no_union_has_a_tuple_of_fixed_length_beside_what_has_bounds():
    """msgspec 0.22 takes one for the other, and reads memory that is not its own."""
    for kind in records_of():
        for field in inspect.type_info(kind).fields:
            for union in unions(field.type):
                tuples = [part for part in union.types if isinstance(part, inspect.TupleType)]
                assert not tuples or (len(union.types) == 2 and union.includes_none), (kind, field.name)
