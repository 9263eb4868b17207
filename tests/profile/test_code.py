"""What was made by other code is told from what this code makes."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from nasvit_edge import files
from nasvit_edge.export import onnx, tflite, tflite_graph
from nasvit_edge.model import blocks, checkpoint, folded
from nasvit_edge.profile import code, models


@pytest.mark.parametrize(
    "function",
    [
        models.op_module,
        models.Models.path,
        blocks.build,
        checkpoint.fill_generic,
        folded.fold_block,
        onnx.convert,
        tflite.convert,
        tflite_graph.chain,
    ],
    ids=lambda function: function.__name__,
)
def test_a_model_file_is_not_kept_beyond_the_code_that_makes_it(function):
    root = Path(files.__file__).parent
    name = Path(inspect.getfile(function)).relative_to(root).as_posix()
    assert name in (*code._LOWERING, *code._OTHERS)


def test_weights_decide_model_files_but_not_latencies():
    assert code.conversion_digest() != code.code_digest()
    assert not set(code._OTHERS) & set(code._LOWERING)
