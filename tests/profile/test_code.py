"""What was made by other code is told from what this code makes."""

from __future__ import annotations

import gc
import inspect
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nasvit_edge import block_ops, files
from nasvit_edge.export import onnx, tflite, tflite_graph
from nasvit_edge.model import blocks, checkpoint, folded, folding, rewrites
from nasvit_edge.profile import code, models


@pytest.mark.parametrize(
    "function",
    [
        models.op_module,
        models.Models.path,
        block_ops.MBConv,
        blocks.build,
        checkpoint.fill_generic,
        folded.FoldedTransformer,
        folding.folded,
        rewrites.fold_block,
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


def test_threads_that_ask_at_once_get_the_same_digest():
    """Each device has a thread; a collection within the parser lets another one run, which CPython 3.11 does not bear."""

    def fresh(_):
        code._digest_of.cache_clear()
        return code.code_digest()

    def collected(phase, info):
        del phase, info
        time.sleep(0)

    threshold = gc.get_threshold()
    gc.callbacks.append(collected)
    gc.set_threshold(50)
    try:
        with ThreadPoolExecutor(4) as pool:
            assert set(pool.map(fresh, range(12))) == {code.code_digest()}
    finally:
        gc.callbacks.remove(collected)
        gc.set_threshold(*threshold)
