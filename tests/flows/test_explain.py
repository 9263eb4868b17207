"""Explaining a result: in words, with the table and the accuracy it was searched with."""

from __future__ import annotations

import json

import pytest
from made_up import COMPOSITION, SETTING, table
from msgspec.structs import replace

import nasvit_edge as ne
from nasvit_edge import files, records
from nasvit_edge.errors import TableError
from nasvit_edge.flows import explain as flow
from nasvit_edge.listening import SILENT, Listener
from nasvit_edge.report import explain_text as text
from nasvit_edge.report import search_text as shown
from nasvit_edge.requests.explain import Request
from nasvit_edge.searching.accuracy import predictor_path
from nasvit_edge.searching.evolution import Effort
from nasvit_edge.searching.result import file_of, read_result
from nasvit_edge.searching.search import search
from nasvit_edge.space import load_space

NASVIT = load_space("nasvit")


@pytest.fixture
def searched(tmp_path, monkeypatch):
    """A result file and its table's file."""
    monkeypatch.chdir(tmp_path)
    latencies = table(NASVIT, 0, COMPOSITION)
    path = tmp_path / "t.json"
    records.write(path, latencies.file)
    budget = 2 * latencies.predict(NASVIT.smallest()).ms
    result = search(
        NASVIT, latencies, ne.load_accuracy("nasvit"), budget, effort=Effort(population=40, generations=10)
    )
    setting = replace(
        SETTING, table_sha256=files.sha256(path), accuracy_sha256=files.sha256(predictor_path("nasvit"))
    )
    records.write(tmp_path / "s.json", file_of(result, setting))
    return tmp_path / "s.json", path


def asked(result, table=None):
    return Request(result=result, table=table)


def test_a_result_is_explained_by_stages_and_changes(searched):
    said = []
    explained = flow.explain(asked(*searched), Listener(note=said.append))
    assert not said
    saved = json.loads(searched[0].read_text())["best"]
    assert explained.latency_ms == pytest.approx(saved["latency_ms"])
    assert explained.accuracy == pytest.approx(saved["accuracy"])
    assert len(text.stages(explained).rows) == 9
    assert "whatever the ops" in text.headline(explained)
    lines = text.remarks(explained)
    assert lines[0].startswith("with more time first: ")
    assert lines[1].startswith("to save time first: ")


def test_a_table_or_predictor_that_changed_is_said(searched):
    result, path = searched
    path.write_text(path.read_text() + "\n")
    raw = json.loads(result.read_text())
    raw["setting"]["accuracy_sha256"] = "1" * 64
    result.write_text(json.dumps(raw))
    said = []
    flow.explain(asked(result, path), Listener(note=said.append))
    assert len(said) == 2
    assert "t.json" in said[0]


def test_a_table_that_is_not_found_is_to_be_named(searched):
    with pytest.raises(TableError, match="name it: --table FILE"):
        flow.explain(asked(searched[0]), SILENT)


def test_a_result_is_shown_in_words_and_characters(searched):
    result = read_result(searched[0]).file
    assert "predicted, not measured" in shown.title(result)
    assert f"(latency {shown.show_ms(result.budget_ms)})" in shown.title(result)
    picture = shown.plot(result)
    assert picture.count("O") >= 1
    assert "\x1b" not in picture
    assert max(map(len, picture.splitlines())) <= 80
    latencies = [c.latency_ms for c in shown.around(result)]
    assert latencies == sorted(latencies)
    assert any("exact" in line for line in shown.remarks(result))
    assert shown.plot(replace(result, front=result.front[:1])) == ""
