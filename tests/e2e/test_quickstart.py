"""The whole path, as the README promises it."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.slow


def _quickstart(folder):
    start = time.monotonic()
    process = subprocess.run(
        [sys.executable, "-m", "nasvit_edge.cli", "quickstart", "--out", "q", "--json"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout), time.monotonic() - start


def test_quickstart_ends_with_checked_artifacts_and_again_with_the_same_subnet(tmp_path):
    report, took = _quickstart(tmp_path)
    assert took < 240 * 1.5  # four minutes on two quiet cores; test machines are busy
    assert {artifact["artifact"] for artifact in report["artifacts"]} == {"nano.onnx", "nano.tflite"}
    for artifact in report["artifacts"]:
        assert artifact["error"] <= 1e-4
        assert artifact["measured_ms"] > 0
    first, second = report["artifacts"]
    assert first["correct"] == second["correct"]
    assert first["predicted_ms"] <= report["budget_ms"]
    for name in ("report.md", "report.json", "search.json", "nano.onnx", "nano.tflite", "nano.onnx.json"):
        assert (tmp_path / "q" / name).is_file()
    again, took_again = _quickstart(tmp_path)
    assert again["best"] == report["best"]
    assert took_again < took
