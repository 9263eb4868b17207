"""Converting in worker processes: none that hangs is waited for without end."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest
from conftest import TINIER, one_line, require_module, space_of

from nasvit_edge.errors import ExportError
from nasvit_edge.listening import SILENT, Listener
from nasvit_edge.ops import all_ops
from nasvit_edge.profile import conversion
from nasvit_edge.profile.models import Item, Models


class Hanging:
    """Models whose worker waits for a disk that does not answer, as soon as it gets them."""

    def __init__(self, pipe: Path) -> None:
        self.pipe = pipe

    def __reduce__(self):
        return (open, (str(self.pipe),))


def test_a_converter_that_hangs_is_one_line_and_gone(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    workers = []

    class Noted(subprocess.Popen):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            workers.append(self)

    monkeypatch.setattr(conversion.subprocess, "Popen", Noted)
    monkeypatch.setattr(conversion, "_SILENT_S", 1.0)
    began = time.monotonic()
    with pytest.raises(ExportError, match="converting models is stalled: none was finished in 1 s") as caught:
        conversion._in_parallel([Item(str(i)) for i in range(9)], Hanging(tmp_path / "pipe"), SILENT)
    one_line(caught)
    assert time.monotonic() - began < 20
    assert workers
    assert all(worker.returncode is not None for worker in workers)


def test_workers_convert_what_is_read_again_here(tmp_path, monkeypatch):
    require_module("onnx")
    monkeypatch.setattr(conversion.os, "cpu_count", lambda: 1)
    space, steps = space_of(TINIER), []
    models = Models(space, "onnxruntime", tmp_path)
    items = [Item(op.key(), op=op) for op in all_ops(space)[:5]]
    conversion._in_parallel(items, models, Listener(progress=lambda *done: steps.append(done)))
    assert [done for done, _, _ in steps][-1] == len(items)
    assert all(models.is_kept(item) for item in items)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert {models.path(item)[0] for item in items} == set(written)
    assert written == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
