"""Every shipped table answers: it is read, holds what its name says, and is of graphs that the code makes today."""

from __future__ import annotations

import json

import pytest

from nasvit_edge import files
from nasvit_edge.choosing.table import answering, trusted
from nasvit_edge.latency.file import TableFile
from nasvit_edge.latency.selection import heading
from nasvit_edge.listening import Listener
from nasvit_edge.ops import op_keys
from nasvit_edge.profile.trust import outdated
from nasvit_edge.records import content, read, write
from nasvit_edge.requests.options import TableChoice
from nasvit_edge.space import load_space

SHIPPED = sorted(files.shipped("latency_tables").glob("*.json"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_table_answers_by_its_device_runtime_threads_and_precision(path, tmp_path, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    fields = heading(path)
    space, notes = load_space(fields.pop("space")), []
    table = trusted(
        answering(TableChoice(**fields), space, Listener(note=notes.append)).table,
        Listener(note=notes.append),
    )
    assert table.path.name == path.name
    assert not any("another way" in note for note in notes)
    assert set(table.ops_ms) == op_keys(space)
    for config in (space.smallest(), space.largest()):
        prediction = table.predict(config)
        assert prediction.coverage == 1
        assert 0 < prediction.low_ms < prediction.ms < prediction.high_ms


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_table_is_written_as_it_was_read(path, tmp_path):
    file = read(TableFile, path, "latency table")
    assert content(file) == json.loads(path.read_text())
    write(tmp_path / "again.json", file)
    assert (tmp_path / "again.json").read_bytes() == path.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_op_of_a_shipped_table_is_computed_as_it_was(path):
    from nasvit_edge.latency import load_table
    from nasvit_edge.ops import all_ops

    table = load_table(path)
    assert outdated(table, all_ops(table.space)) == []
