"""The workflow for those who fork the project: it parses, and what its steps name is there."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest
import yaml
from conftest import LINUX_ONLY, PROMISED

from nasvit_edge import systems
from nasvit_edge.export.formats import format_names, load_format

ROOT = Path(__file__).resolve().parents[2]
WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
JOBS = WORKFLOW["jobs"]
MATRIX = JOBS["promised"]["strategy"]["matrix"]["include"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PLATFORMS = {"ubuntu-24.04-arm": "linux", "macos-15": "darwin", "windows-2025": "win32"}
STEPS = [step for job in JOBS.values() for step in job["steps"]]


def test_it_runs_on_every_system_and_for_pull_requests():
    assert "pull_request" in WORKFLOW[True]  # YAML 1.1 reads `on` as true
    assert JOBS["linux"]["runs-on"].startswith("ubuntu")
    assert [entry["os"] for entry in MATRIX] == list(PLATFORMS)


def test_it_may_only_read_and_has_an_end():
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert all(job["timeout-minutes"] <= 60 for job in JOBS.values())


def test_actions_are_those_of_the_examples_by_commit():
    known = set(re.findall(r"uses: (\S+@[0-9a-f]{40})", (ROOT / "docs/ci/github-jetson.yml").read_text()))
    used = {step["uses"] for step in STEPS if "uses" in step}
    assert used <= known


def test_linux_runs_what_a_laptop_runs():
    assert [step["run"] for step in JOBS["linux"]["steps"] if "run" in step] == [".ci/run"]
    assert (ROOT / ".ci/run").stat().st_mode & 0o100


@pytest.mark.parametrize("entry", MATRIX, ids=lambda entry: entry["os"])
def test_each_system_installs_what_its_formats_need(entry):
    extras = entry["extras"].split(",")
    assert set(extras) <= set(PROJECT["project"]["optional-dependencies"])
    lacking = systems.SYSTEMS.get(PLATFORMS[entry["os"]], systems.LINUX).formats
    needed = {package.extra for name in format_names() for package in load_format(name).packages.values()}
    for extra in needed - {"tensorrt", "coreml"}:
        assert (extra in extras) == (extra not in lacking), extra


def test_its_commands_are_of_tests_that_are_there():
    runs = [shlex.split(step["run"]) for step in JOBS["promised"]["steps"] if "run" in step]
    assert [words[:3] for words in runs] == [
        ["python", "-m", "pip"],
        ["python", "-m", "pytest"],
        ["python", "-m", "pytest"],
    ]
    assert (ROOT / runs[1][3]).is_file()
    markers = [line.partition(":")[0] for line in PROJECT["tool"]["pytest"]["ini_options"]["markers"]]
    assert runs[2][-1].split(" and not ") == ["promised", "slow"]
    assert {"promised", "slow"} <= set(markers)


def test_what_is_promised_is_there():
    for path in PROMISED:
        assert (ROOT / path).exists(), path
    names = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    assert set(LINUX_ONLY) <= names


def test_the_page_says_of_each_system_what_the_code_refuses():
    page = (ROOT / "docs/systems.md").read_text()
    rows = {cells[1].strip(): cells for line in page.splitlines() if len(cells := line.split("|")) == 6}
    formats = rows["`export`, `verify`, `evaluate`, `benchmark`"]
    for name, cell in (("darwin", formats[3]), ("win32", formats[4])):
        assert set(re.findall("`(.+?)`", cell)) == set(format_names()) - set(systems.SYSTEMS[name].formats)
    assert rows["`train`, `finetune`, `adopt`"][3:5] == [" yes ", " no "]
    assert systems.SYSTEMS["win32"].commands == ("train", "finetune", "adopt")
    assert systems.SYSTEMS["darwin"].commands == ()
