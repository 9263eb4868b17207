"""A table is used where it holds, and refused with the reason where it does not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import TINY, one_line, space_of
from made_up import table_file

from nasvit_edge import records
from nasvit_edge.choosing.table import trusted
from nasvit_edge.errors import DeviceError, TableError
from nasvit_edge.latency.file import OpEntry
from nasvit_edge.latency.names import table_name
from nasvit_edge.latency.table import LatencyTable, load_table
from nasvit_edge.listening import SILENT, Listener
from nasvit_edge.ops import all_ops, lower
from nasvit_edge.profile import kept_graphs, trust
from nasvit_edge.profile.graphs import graph_hash
from nasvit_edge.profile.kept_graphs import Graphs
from nasvit_edge.profile.models import op_module
from nasvit_edge.profile.validate import validate
from nasvit_edge.runtimes import RUNTIMES

pytest.importorskip("onnxruntime")
SPACE = space_of(TINY)


def table(**changes):
    ops = {
        op.key(): OpEntry(median_ms=0.1, graph=graph_hash(op_module(op), (1, *op.in_shape())))
        for op in all_ops(SPACE)
    }
    facts = {
        "runtime_version": RUNTIMES["onnxruntime"].version(),
        "fingerprint": trust.fingerprint(),
        "code": trust.code_digest(),
        "provenance": "measured",
        "ops": ops,
    } | changes
    return LatencyTable.of(Path("t.json"), SPACE, table_file(SPACE, **facts))


def test_a_table_of_this_machine_and_code_raises_no_concern():
    assert trust.concerns(table(), [SPACE.largest()]) == []


def test_a_table_of_another_machine_is_refused_and_says_which():
    other = table(fingerprint=trust.fingerprint() | {"soc": "Cortex-A76"})
    with pytest.raises(TableError) as caught:
        trusted(other, SILENT)
    line = one_line(caught)
    assert "'Cortex-A76'" in line
    assert "nasvit-edge profile" in line
    with pytest.raises(DeviceError, match="another machine"):
        validate(other, 4)


def test_named_by_its_file_it_is_used_with_a_warning():
    other = table(fingerprint=trust.fingerprint() | {"soc": "Cortex-A76"})
    notes = []
    trusted(other, Listener(note=notes.append), by_file=True)
    assert any(note.startswith("WARNING") and "Cortex-A76" in note for note in notes)


@pytest.mark.parametrize("device", ["host", "board"])
def test_a_table_of_an_emulator_is_never_taken_for_a_boards_without_a_word(device):
    emulated = table(device=device, fingerprint=trust.fingerprint() | {"emulated": "qemu-aarch64-static"})
    (concern,) = trust.concerns(emulated)
    assert "qemu-aarch64-static" in concern.text
    if device == "board":
        with pytest.raises(TableError, match="under an emulator"):
            trusted(emulated, SILENT)
    notes = []
    trusted(emulated, Listener(note=notes.append), by_file=True)
    assert any("under an emulator (qemu-aarch64-static)" in note for note in notes)


def test_a_heading_says_that_the_processor_is_emulated():
    """As the runner tells the processor there, so it stands above every prediction."""
    facts = {
        "soc": "Cortex-A72 emulated by qemu-aarch64-static",
        "cores": 4,
        "emulated": "qemu-aarch64-static",
    }
    assert "Cortex-A72 emulated by qemu-aarch64-static, 4 cores" in table(fingerprint=facts).setting.line()


def test_another_version_of_the_runtime_is_noted():
    (concern,) = trust.concerns(table(runtime_version="0.1"), [])
    assert "0.1" in concern.text
    assert not concern.serious


def test_another_governor_is_noted():
    (concern,) = trust.concerns(table(fingerprint=trust.fingerprint() | {"governor": "odd"}), [])
    assert "governor" in concern.text
    assert not concern.serious


def test_ops_that_are_computed_another_way_today_are_refused_only_where_much_of_the_time_rests_on_them():
    ops = dict(table().file.ops)
    changed = next(key for key in ops if key.startswith("transformer"))
    ops[changed] = OpEntry(median_ms=0.1, graph="0" * 24)
    old = table(code="other", ops=ops)
    uses = {c: changed in {op.key() for op in trust.lower(SPACE, c)} for c in SPACE.all_configs()}
    assert trust.concerns(old, [next(c for c, used in uses.items() if not used)]) == []
    every = [c for c, used in uses.items() if used]
    (concern,) = trust.concerns(old, every[:1])
    assert concern.serious
    assert changed in concern.text


def test_code_that_changed_without_changing_a_graph_is_no_concern():
    assert trust.concerns(table(code="other"), [SPACE.largest()]) == []


def test_an_imported_table_says_so():
    (concern,) = trust.concerns(table(provenance="imported", source="somewhere"), [])
    assert "imported (somewhere)" in concern.text
    assert not concern.serious


def test_the_fingerprint_can_be_written():
    assert json.loads(json.dumps(trust.fingerprint()))["architecture"]
    assert table().file.fingerprint == trust.fingerprint()


def test_hashes_of_graphs_are_kept_and_damaged_ones_made_again(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    op = lower(SPACE, SPACE.smallest())[1]
    first = Graphs("onnxruntime", "fp32")
    graph = first.of(op)
    first.keep()
    with monkeypatch.context() as without:
        without.setattr(kept_graphs, "hashes", lambda *a: pytest.fail("built again"))
        assert Graphs("onnxruntime", "fp32").of(op) == graph
    kept = next((tmp_path / "nasvit-edge" / "graphs").iterdir())
    for damage in (
        "{",
        "[]",
        '{"schema": 2}',
        '{"schema": 2, "graphs": []}',
        f'{{"schema": 2, "graphs": {{"{op.key()}": 3}}}}',
        f'{{"schema": 2, "graphs": {{"{op.key()}": ["x"]}}}}',
    ):
        kept.write_text(damage)
        assert Graphs("onnxruntime", "fp32").of(op) == graph
    monkeypatch.setattr(kept_graphs.files, "write_json", lambda *a: (_ for _ in ()).throw(OSError("full")))
    result = Graphs("onnxruntime", "fp32")
    result.of(op)
    result.keep()  # a full disk is no error here


@pytest.mark.parametrize(("ms", "told"), [(0.103, True), (0.1, True), (0.09, False)])
def test_a_precision_that_is_not_faster_than_fp32_here_is_told_by_both_tables(tmp_path, ms, told):
    exact, rounded = (
        table(precision=precision, ops={op.key(): OpEntry(median_ms=each) for op in all_ops(SPACE)}).file
        for precision, each in (("fp32", 0.1), ("int8", ms))
    )
    for file in (exact, rounded):
        name = table_name(file.device, file.runtime, file.threads, file.precision, file.space)
        records.write(tmp_path / name, file)
    asked = load_table(tmp_path / name, space=SPACE)
    told_of = [
        concern for concern in trust.concerns(asked, [SPACE.largest()]) if "of fp32's time" in concern.text
    ]
    assert bool(told_of) == told
    if told:
        assert told_of[0].text.startswith(f"int8 takes {ms / 0.1:.2f} of fp32's time here (")
        assert "w8 is as small" in told_of[0].text
        assert not told_of[0].serious


def test_where_there_is_no_table_of_fp32_nothing_is_told(tmp_path):
    alone = table(precision="int8")
    assert not [c for c in trust.concerns(alone, [SPACE.largest()]) if "of fp32's time" in c.text]


def test_an_int8_table_of_before_is_of_graphs_that_are_written_otherwise_today():
    op = all_ops(SPACE)[0]
    before = graph_hash(op_module(op), (1, *op.in_shape()))
    assert before in kept_graphs.hashes(op, "onnxruntime", "fp32")
    assert before not in kept_graphs.hashes(op, "onnxruntime", "int8")
    assert before in kept_graphs.hashes(op, "onnxruntime", "w8")
