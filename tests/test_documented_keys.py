"""The tables of keys in the documentation name what the records read, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from msgspec.structs import fields

import nasvit_edge
from nasvit_edge.benchmark.budgets import BudgetEntry
from nasvit_edge.benchmark.result import BenchmarkFile, MeasuredArtifact
from nasvit_edge.device import DeviceFile

DOCS = Path(nasvit_edge.__file__).parents[1] / "docs"


def named(page: str, heading: str) -> set[str]:
    """The keys in the first column of the table with this heading."""
    text = (DOCS / page).read_text()
    _, _, table = text.partition(f"| {heading} |")
    rows = re.match(r"[^\n]*\n\|[-|]+\n((?:\|[^\n]*\n)*)", table)
    assert rows, heading
    first = [line.split("|")[1] for line in rows[1].splitlines()]
    return {key for cell in first for key in re.findall(r"`(\w+)`", cell)}


@pytest.mark.parametrize(
    ("page", "heading", "kind"),
    [
        ("benchmark.md", "key", BenchmarkFile),
        ("benchmark.md", "key of an artifact", MeasuredArtifact),
        ("ci.md", "key", BudgetEntry),
    ],
)
def test_every_key_of_a_file_is_in_its_table(page, heading, kind):
    assert named(page, heading) == {field.encode_name for field in fields(kind)}


def test_what_is_said_of_devices_over_ssh_are_keys_of_devices():
    assert named("ssh.md", "key") < {field.encode_name for field in fields(DeviceFile)}
