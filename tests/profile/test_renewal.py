"""A table outlives changes of the code: what changed is measured again, and nothing else."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest
from conftest import TINY, one_line, space_of

from nasvit_edge.choosing.table import resting_on_changed, trusted
from nasvit_edge.code import code_digest
from nasvit_edge.errors import TableError
from nasvit_edge.latency import load_table
from nasvit_edge.listening import Listener
from nasvit_edge.ops import all_ops, lower
from nasvit_edge.profile import graphs, trust
from nasvit_edge.profile import run as profiling
from nasvit_edge.profile.plan import ProfilePlan
from nasvit_edge.profile.protocol import PROTOCOLS
from nasvit_edge.profile.renewal import renewal
from nasvit_edge.profile.trust import OUTDATED_MOST, outdated, resting

pytest.importorskip("onnxruntime")
SPACE = space_of(TINY)
KEYS = [op.key() for op in all_ops(SPACE)]


@pytest.fixture(scope="module")
def profiled(tmp_path_factory):
    return profiling.profile(SPACE, protocol="quick", out=tmp_path_factory.mktemp("tables"))


@pytest.fixture
def table(profiled, tmp_path):
    """A copy, so that each test changes its own."""
    return shutil.copy(profiled, tmp_path / profiled.name)


def changed_since(path, *keys):
    """The file as another version of the code would have written it, which computed these ops another way."""
    raw = json.loads(path.read_text())
    for key in keys:
        raw["ops"][key] |= {"graph": "0" * 24}
    path.write_text(json.dumps(raw | {"code": "an earlier one"}))
    return raw


def measured_again(path, **choice):
    """Ids of what `profile` asked the device for, canaries aside, and what it said."""
    asked, notes = set(), []
    real = profiling.Session._ask

    def ask(session, item):
        asked.add(item.id)
        return real(session, item)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(profiling.Session, "_ask", ask)
        profiling.profile(
            SPACE,
            protocol="quick",
            out=path.parent,
            listener=Listener(note=notes.append),
            **choice,
        )
    return {name for name in asked if not name.startswith("canary")}, notes


def test_after_a_change_of_one_ops_graph_one_op_is_measured(table):
    key = next(key for key in KEYS if key.startswith("transformer"))
    before = changed_since(table, key)
    asked, notes = measured_again(table)
    assert {name for name in asked if not name.startswith("subnet:")} == {key}
    assert any(f"1 of {len(KEYS)} ops" in note and "min" in note for note in notes)
    after = json.loads(table.read_text())
    for other in KEYS:
        assert (after["ops"][other] == before["ops"][other]) == (other != key)
    (text,) = after["renewed"]
    assert text["ops"] == [key]
    latencies = load_table(table, space=SPACE)
    assert outdated(latencies, all_ops(SPACE)) == []
    assert latencies.call_ms == before["call_ms"]


def test_whole_subnets_with_the_changed_op_are_measured_with_it_and_others_stay(table):
    key = next(key for key in KEYS if key.startswith("transformer"))
    before = changed_since(table, key)
    asked, _ = measured_again(table)
    after = json.loads(table.read_text())
    again = [name for name in asked if name.startswith("subnet:")]
    with_it = [
        entry
        for entry in before["subnets"]
        if key in {op.key() for op in lower(SPACE, SPACE.config_from(entry["config"]))}
    ]
    assert 0 < len(with_it) == len(again) == after["renewed"][0]["subnets"]
    for old, new in zip(before["subnets"], after["subnets"], strict=True):
        assert old["config"] == new["config"]
        assert (old == new) == (old not in with_it)


def plan_of(raw):
    """As `profile` would measure this table again."""
    text = {field.name: raw[field.name] for field in dataclasses.fields(ProfilePlan)}
    return ProfilePlan(**text | {"protocol": PROTOCOLS["quick"], "code": code_digest()})


def test_a_stored_validation_keeps_what_was_measured_without_the_changed_op(table):
    key = next(key for key in KEYS if key.startswith("transformer"))
    raw = changed_since(table, key)
    rows = [
        {"config": entry["config"], "predicted_ms": 1.0, "measured_ms": [entry["median_ms"], entry["p90_ms"]]}
        for entry in raw["subnets"]
    ]
    figures = ("mape", "bias", "largest", "within_5", "within_10", "tau", "tau_bands", "repeat_mape")
    validation = dict.fromkeys(figures, 0.5) | {"count": len(rows), "subnets": rows}
    holds = [key in {op.key() for op in lower(SPACE, SPACE.config_from(row["config"]))} for row in rows]
    table.write_text(json.dumps(raw | {"code": "an earlier one", "validation": validation}))
    measured_again(table)
    after = json.loads(table.read_text())["validation"]
    assert [row["config"] for row in after["subnets"]] == [
        row["config"] for row, stale in zip(rows, holds, strict=True) if not stale
    ]
    assert after["count"] == holds.count(False)
    table.write_text(
        json.dumps(raw | {"code": "an earlier one", "validation": validation | {"subnets": rows[:3]}})
    )
    measured_again(table)
    assert json.loads(table.read_text())["validation"] is None


def test_where_nothing_changed_everything_is_measured_as_it_was_asked_for(table):
    plan = plan_of(json.loads(table.read_text()))
    assert renewal(table, SPACE, plan) is None
    changed_since(table, KEYS[0])
    assert renewal(table, SPACE, plan).keys == [KEYS[0]]
    changed_since(table, *KEYS)
    assert renewal(table, SPACE, plan) is None
    assert renewal(table.with_name("absent.json"), SPACE, plan) is None


@pytest.mark.parametrize(
    "other",
    [{"runtime_version": "0.1"}, {"seed": 5}, {"fingerprint": {"soc": "another"}}, {"protocol": None}],
    ids=str,
)
def test_a_table_of_another_machine_runtime_seed_or_protocol_is_not_mixed_with(table, other):
    raw = changed_since(table, KEYS[0])
    table.write_text(json.dumps(raw | {"code": "an earlier one"} | other))
    assert renewal(table, SPACE, plan_of(raw)) is None


def test_a_search_is_told_how_much_rests_on_changed_ops_and_refused_only_beyond_the_limit(table):
    biggest = SPACE.largest()
    shares = {
        op.key(): resting(load_table(table, space=SPACE), biggest, {op.key()}) for op in lower(SPACE, biggest)
    }
    small, large = min(shares, key=shares.__getitem__), max(shares, key=shares.__getitem__)
    assert shares[small] < OUTDATED_MOST < shares[large]
    changed_since(table, small)
    notes = []
    trusted(load_table(table, space=SPACE), Listener(note=notes.append), [biggest])
    assert any(small in note and f"{shares[small]:.1%} of the time" in note for note in notes)
    text = resting_on_changed(load_table(table, space=SPACE), biggest)
    assert (text.table, text.ops, text.share) == (table.name, 1, pytest.approx(shares[small]))
    without = next(c for c in SPACE.all_configs() if small not in {op.key() for op in lower(SPACE, c)})
    assert resting_on_changed(load_table(table, space=SPACE), without).ops == 0
    changed_since(table, large)
    with pytest.raises(TableError) as caught:
        trusted(load_table(table, space=SPACE), Listener(note=notes.append), [biggest])
    assert "nasvit-edge profile" in one_line(caught)


def test_two_spellings_of_one_computation_are_one_graph():
    import torch

    class Said(torch.nn.Module):
        def forward(self, x):
            return x.mean((2, 3), keepdim=False)

    class Left(torch.nn.Module):
        def forward(self, x):
            return x.mean((2, 3))

    class Other(torch.nn.Module):
        def forward(self, x):
            return x.mean((2, 3), keepdim=True)

    Said.__name__ = Left.__name__ = Other.__name__ = "Mean"
    said, left, other = (graphs.graph_hash(m(), (1, 3, 4, 4)) for m in (Said, Left, Other))
    assert said == left != other


def test_a_table_of_a_namesake_is_neither_overwritten_nor_answers(table):
    other = SPACE.with_labels("ab")
    assert other.name == SPACE.name
    before = table.read_bytes()
    with pytest.raises(TableError, match="another space that is called 'tiny'") as caught:
        profiling.profile(other, protocol="quick", out=table.parent)
    one_line(caught)
    assert table.read_bytes() == before
    with pytest.raises(TableError, match="another space that is called 'tiny'"):
        load_table(table, space=other)
    raw = json.loads(table.read_text())
    del raw["ops_digest"]  # as an earlier version wrote it
    table.write_text(json.dumps(raw))
    with pytest.raises(TableError, match="another space that is called 'tiny'"):
        profiling.profile(other, protocol="quick", out=table.parent)


def test_labels_and_colours_do_not_make_another_table(table):
    other = SPACE.with_labels([f"class {i}" for i in range(SPACE.classes)])
    assert other != SPACE
    assert load_table(table, space=other).space == other
    assert trust.concerns(load_table(table, space=other), [SPACE.smallest()]) == []
