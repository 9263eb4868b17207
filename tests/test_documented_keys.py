"""What the documentation and the protocol say of keys is what the records say, and names all of them."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import nasvit_edge

WRITER = Path(nasvit_edge.__file__).parents[1] / "benchmarks" / "write_generated.py"


@pytest.fixture(scope="module")
def writer():
    return runpy.run_path(str(WRITER))


def test_all_that_is_generated_is_as_the_records_have_it():
    done = subprocess.run([sys.executable, WRITER, "--check"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_the_tables_are_of_these_records(writer):
    pages = [path.read_text() for path in (WRITER.parents[1] / "docs").glob("*.md")]
    names = {name for page in pages for _, name, *_ in writer["_REGION"].findall(page)}
    assert {name.rpartition(".")[2] for name in names} >= {
        "BenchmarkFile",
        "MeasuredArtifact",
        "BudgetEntry",
        "DeviceFile",
    }


PAGE = "Before.\n\n<!-- keys: {} -->\nold\n<!-- end of keys -->\n\nBehind.\n"
BUDGET = "nasvit_edge.benchmark.budgets.BudgetEntry"


def test_a_table_is_written_between_its_marks_alone(writer):
    page = writer["documented"](PAGE.format(BUDGET))
    assert page.startswith(f"Before.\n\n<!-- keys: {BUDGET} -->\n| key | |\n")
    assert page.endswith("|\n<!-- end of keys -->\n\nBehind.\n")
    assert "old" not in page
    assert writer["documented"](page) == page


def test_keys_that_are_chosen_are_those_of_the_table(writer):
    page = writer["documented"](PAGE.format(f"{BUDGET} size fallback_ops"))
    assert [line.split("|")[1].strip() for line in page.splitlines() if line.startswith("| `")] == [
        "`size`, `memory`",
        "`fallback_ops`",
    ]


@pytest.mark.parametrize("name", [f"{BUDGET} speed", "nasvit_edge.benchmark.result.BenchmarkRun"])
def test_a_key_without_words_is_an_error(writer, name):
    with pytest.raises(ValueError, match="alone"):
        writer["documented"](PAGE.format(name))
