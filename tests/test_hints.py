"""Suggested commands are commands: they are quoted, their words and options exist, and running one mends what it is suggested for."""

from __future__ import annotations

import ast
import functools
import json
import re
import shlex
import sys
from pathlib import Path

import pytest
import typer.main
from bench_results import content
from conftest import TINIER, edited, require_module
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import nasvit_edge
from nasvit_edge.choosing.table import answering, trusted, wanted_of
from nasvit_edge.cli import app
from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.flows.history import read_lines
from nasvit_edge.hints import command
from nasvit_edge.listening import SILENT
from nasvit_edge.profile.sustained import steady_factor
from nasvit_edge.requests.options import TableChoice
from nasvit_edge.requests.report import History as HistoryRequest
from nasvit_edge.space import load_space

PACKAGE = Path(nasvit_edge.__file__).parent
SAID = re.compile(r"nasvit-edge ((?:[a-z]+ ?)+[^`'\";),]*)")
COMMANDS = typer.main.get_command(app).commands


@given(st.text(min_size=1), st.text(), st.integers(1, 99), st.lists(st.text(min_size=1), max_size=3))
def test_any_value_comes_through_a_shell_as_it_was(word, value, number, several):
    line = command(
        "search", word, space=value, threads=number, gene=several, steady=True, table=None, json=False
    )
    words = ["nasvit-edge", "search", word, *(["--space", value] if value else []), "--threads", str(number)]
    words += [part for each in several for part in ("--gene", each)] + ["--steady"]
    assert shlex.split(line) == words


@functools.cache
def trees():
    """Every module of the package."""
    return [(path, ast.parse(path.read_text())) for path in sorted(PACKAGE.rglob("*.py"))]


def strings():
    """Every text of the package that names a command, docstrings and comments aside."""
    for path, tree in trees():
        docs = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(getattr(node, "body", None), list)
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
                for match in SAID.finditer(node.value):
                    yield f"{path.relative_to(PACKAGE)}:{node.lineno}", match[1]


def called():
    """Every `command(...)` of the package: its words and its options."""
    for path, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "command":
                words = [part.value for part in node.args if isinstance(part, ast.Constant)]
                options = [f"--{part.arg.replace('_', '-')}" for part in node.keywords if part.arg]
                if words:
                    yield f"{path.relative_to(PACKAGE)}:{node.lineno}", [*map(str, words), *options]


def unknown(words):
    """What of a command's words and options the program does not have."""
    group, at = COMMANDS, 0
    while at < len(words) and words[at] in group:
        command_at = group[words[at]]
        group, at = getattr(command_at, "commands", {}), at + 1
    if at == 0:
        return words[:1] if re.fullmatch("[a-z]+", words[0]) else []
    if group:
        return [f"{words[at - 1]} ..."]
    known = {name for parameter in command_at.params for name in parameter.opts}
    return [word for word in words[at:] if word.startswith("--") and word not in known]


PROSE = {
    "bench",
    "is",
    "was",
    "wrote",
    "writes",
    "cannot",
    "does",
    "needs",
    "measures",
}  # `another nasvit-edge is measuring`


def test_commands_in_messages_exist_with_their_options():
    texts = [(where, text.rstrip(".").split()) for where, text in strings()]
    wanted = [(where, words) for where, words in texts if words[0] not in PROSE]
    assert wanted
    assert [(where, wrong) for where, words in wanted if (wrong := unknown(words))] == []


def test_built_commands_exist_with_their_options():
    wanted = list(called())
    assert len(wanted) > 10
    assert [(where, wrong) for where, words in wanted if (wrong := unknown(words))] == []


def test_no_error_or_note_writes_a_command_by_hand():
    """`hints.command` quotes it and leaves nothing out of what the request had."""
    spoken = (
        (path, node)
        for path in sorted(PACKAGE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Raise)
        or (isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("note", "command"))
    )
    texts = (
        f"{path.relative_to(PACKAGE)}:{part.lineno}: {match[1]}"
        for path, node in spoken
        for part in ast.walk(node)
        if isinstance(part, ast.Constant) and isinstance(part.value, str)
        for match in SAID.finditer(part.value)
        if match[1].split()[0] not in PROSE
    )
    assert list(texts) == []


def follow(error):
    """Run what an error suggests, in this process, as a user would type it."""
    said = re.search(r"nasvit-edge [^;]*?(?=; |, or |$)", str(error))[0]
    words = shlex.split(said)[1:]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, (said, done.output, done.stderr)
    return said


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A space of one's own in a folder with a blank in its name."""
    pytest.importorskip("onnxruntime")
    folder = tmp_path / "my work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "own space.toml").write_text(edited(TINIER, ('name = "tiny"', 'name = "own"')))
    return load_space("own space.toml")


@pytest.mark.slow
@pytest.mark.parametrize(
    "given",
    [
        {"device": "host"},
        {"device": "host", "precision": "int8"},
        {"device": "host:litert", "threads": 2},
    ],
    ids=str,
)
def test_the_hint_of_a_missing_table_measures_the_very_table_that_was_asked_for(own, given):
    require_module("litert_torch")
    with pytest.raises(NasvitEdgeError) as caught:
        answering(TableChoice(**given), own, SILENT)
    follow(caught.value)
    answer = answering(TableChoice(**given), own, SILENT)
    wanted = wanted_of(TableChoice(**given))
    assert {key: getattr(answer.table.file, key) for key in wanted.given()} == wanted.given()
    assert trusted(answer.table, SILENT).path == answer.table.path
    with pytest.raises(NasvitEdgeError) as caught:
        steady_factor(answer.table)
    assert "--sustained 10m" in str(caught.value)
    assert unknown(shlex.split(re.search("nasvit-edge (.*)", str(caught.value))[1])) == []


@pytest.mark.slow
def test_the_hints_of_a_table_of_another_machine_or_schema_mend_it(own):
    """One path, broken in two ways; each hint is run and the same request is answered."""
    with pytest.raises(NasvitEdgeError) as caught:
        answering(TableChoice(), own, SILENT)
    follow(caught.value)
    path = answering(TableChoice(), own, SILENT).table.path
    raw = json.loads(path.read_text())
    for broken in (
        raw | {"fingerprint": raw["fingerprint"] | {"soc": "another"}},
        raw | {"schema": 1},
        raw | {"call_ms": "x"},
    ):
        path.write_text(json.dumps(broken))
        with pytest.raises(NasvitEdgeError) as caught:
            trusted(answering(TableChoice(), own, SILENT).table, SILENT)
        follow(caught.value)
        assert trusted(answering(TableChoice(), own, SILENT).table, SILENT).file.schema == raw["schema"]


def test_the_hint_of_a_missing_history_writes_it_where_it_was_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    request = HistoryRequest(path=tmp_path / "my history.jsonl")
    with pytest.raises(NasvitEdgeError) as caught:
        read_lines(request)
    Path("benchmark.json").write_text(json.dumps(content(effects=(0.0,), rounds=4, count=5)))
    follow(caught.value)
    assert read_lines(request)


def test_on_windows_paths_are_quoted_as_its_shells_read_them(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    line = command("export", r"C:\runs\nano 1\result.json", out=r"C:\m.onnx")
    assert line == r'nasvit-edge export "C:\runs\nano 1\result.json" --out C:\m.onnx'
