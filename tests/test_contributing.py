"""What CONTRIBUTING.md names is there: files, and the words in them."""

from __future__ import annotations

import re
from pathlib import Path

import nasvit_edge

ROOT = Path(nasvit_edge.__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
ADDED = ("NAME", "*")  # of what is to be added


def test_every_file_and_link_is_there():
    named = re.findall(r"`(?:python )?([a-z_./-]+/[\w./*-]+)", TEXT) + re.findall(r"\]\(([^)#]+)\)", TEXT)
    assert len(named) > 20
    missing = [path for path in named if not any(a in path for a in ADDED) and not (ROOT / path).exists()]
    assert missing == []


def test_what_is_said_of_a_file_s_words_holds():
    for word, path in (
        ("class Converter", "nasvit_edge/export/formats.py"),
        ("CONVERTERS", "nasvit_edge/export/__init__.py"),
        ("RUNTIMES", "nasvit_edge/runtimes.py"),
        ("class DeviceFile", "nasvit_edge/device.py"),
        ("class Transport", "nasvit_edge/transport/ways.py"),
        ("class Runner", "nasvit_edge/transport/job.py"),
        ("class Strict", "nasvit_edge/records.py"),
        ("def lower", "nasvit_edge/ops.py"),
        ("def build", "nasvit_edge/model/blocks.py"),
    ):
        assert word in (ROOT / path).read_text(), (word, path)
