"""The README tells the truth: its Python runs, its commands exist, its links lead somewhere."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.main import get_command

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def _blocks(kind):
    return re.findall(rf"```{kind}\n(.*?)```", README, re.DOTALL)


def test_its_python_runs(tmp_path, monkeypatch):
    from nasvit_edge.latency import table_name
    from nasvit_edge.ops import all_ops
    from nasvit_edge.space import load_space

    monkeypatch.chdir(tmp_path)
    ops = {op.key(): {"median_ms": 1.0} for op in all_ops(load_space("nano"))}
    table = {
        "schema": 2,
        "device": "host",
        "runtime": "onnxruntime",
        "threads": 1,
        "precision": "fp32",
        "space": "nano",
    }
    (tmp_path / "latency_tables").mkdir()
    path = tmp_path / "latency_tables" / table_name("host", "onnxruntime", 1, "fp32", "nano")
    path.write_text(json.dumps(table | {"ops": ops, "call_ms": 0.0}))
    for block in _blocks("python"):
        exec(compile(block, "README.md", "exec"), {})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_options_that_it_names_exist(page):
    from nasvit_edge.cli import app

    commands = get_command(app).commands
    for line in re.findall(r"nasvit-edge ([a-z]+[^\n`]*)", page.read_text()):
        words = line.split("#")[0].split()
        if words[0] not in commands:
            assert not any(word.startswith("--") for word in words), line
            continue
        command = commands[words[0]]
        if hasattr(command, "commands") and len(words) > 1 and words[1] in command.commands:
            command = command.commands[words[1]]
        options = {name for parameter in command.params for name in parameter.opts}
        for word in words[1:]:
            if word.startswith("--") and word != "--help":
                assert word.rstrip(".,;:)").split("=")[0] in options, line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_its_links_lead_to_files(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).resolve().exists(), target


def test_ci_runs_its_very_test_command():
    script = (ROOT / ".ci" / "run").read_text()
    command = next(line for line in README[README.index("## Tests") :].splitlines() if "pytest" in line)
    assert "sed -n '/^## Tests/,$p' README.md | grep -m1 'pytest'" in script
    assert command.startswith("python3 -m venv")
