"""Data is only data: whatever stands in a file that is read, nothing is started, written or connected to because of it.

`planting.py` does it in a process of its own, because an audit hook cannot be removed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import require_module

import nasvit_edge

KINDS = 20


def planted(folder: Path, *options: str) -> dict:
    require_module("onnxruntime")
    paths = [str(Path(nasvit_edge.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    script = Path(__file__).with_name("planting.py")
    done = subprocess.run(
        [sys.executable, str(script), str(folder), *options],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.mark.slow
def test_planted_paths_addresses_and_commands_do_nothing(tmp_path):
    actual = planted(tmp_path)
    assert actual["controls"] == ["process", "connection", "write", "read", "removal"]  # the watch is awake
    assert actual["seen"] == []
    assert len(actual["runs"]) > KINDS
    assert min(actual["runs"].values()) >= 4


@pytest.mark.slow
def test_planted_values_do_nothing_in_any_leaf(tmp_path):
    assert planted(tmp_path, "--all")["seen"] == []
