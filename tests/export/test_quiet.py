"""What libraries say to themselves does not reach the user."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from conftest import require_module

from nasvit_edge.export.quiet import muted

CONVERTED = """
import sys
from pathlib import Path
import torch
from nasvit_edge.export import tflite
from nasvit_edge.export.formats import Conversion
from nasvit_edge.export.quiet import quiet
path = Path(sys.argv[1])
with quiet():
    path.write_bytes(tflite.convert(torch.nn.Conv2d(3, 4, 1), (1, 3, 8, 8)))
tflite.runner(path)
print("what is told", file=sys.stderr)
"""


def test_what_is_written_past_python_is_not_seen_and_what_follows_is(capfd):
    with pytest.raises(ValueError, match="told"), muted():  # noqa: PT012 - it is the block that is tested
        os.write(2, b"noise")
        raise ValueError("told")
    os.write(2, b"news")
    assert capfd.readouterr().err == "news"


@pytest.mark.slow
def test_a_tflite_file_is_made_and_loaded_without_a_word_of_the_libraries(tmp_path):
    require_module("litert_torch")
    command = [sys.executable, "-c", CONVERTED, str(tmp_path / "m.tflite")]
    process = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert process.returncode == 0, process.stderr
    assert process.stderr == "what is told\n"
