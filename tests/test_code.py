"""What was made by other code is told from what this code makes."""

from __future__ import annotations

import gc
import inspect
import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import edited

from nasvit_edge import block_ops, cache, code, files
from nasvit_edge.export import onnx, tflite, tflite_graph
from nasvit_edge.model import blocks, checkpoint, folded, folding, rewrites
from nasvit_edge.profile import models

SOURCE = """\"\"\"What it is for.\"\"\"

LIMIT = 3  # why


def scaled(value):
    \"\"\"More of it.\"\"\"
    return value * LIMIT
"""
OF_NO_MATTER = {
    "a comment": ("# why", "# or another why"),
    "a docstring": ("More of it.", "As much as is asked."),
    "no docstring": ('    """More of it."""\n', ""),
    "how lines are broken": ("value * LIMIT", "(\n        value * LIMIT\n    )"),
    "ends of lines": ("\n", "\r\n"),
}
OF_MATTER = {
    "a constant": ("3", "4"),
    "an operator": ("*", "+"),
    "a name": ("LIMIT", "MOST"),
    "a text in use": ("value *", "'value' *"),
}


@pytest.fixture
def caches(tmp_path, monkeypatch):
    """A cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def of(folder, *texts):
    """The digest of files with these texts."""
    paths = [folder / f"{number}.py" for number in range(len(texts))]
    for path, text in zip(paths, texts, strict=True):
        path.write_bytes(text.encode())
    return code.digest(paths)


@pytest.mark.parametrize("change", OF_NO_MATTER)
def test_what_no_program_does_changes_no_digest(change, tmp_path, caches):
    assert of(tmp_path, edited(SOURCE, OF_NO_MATTER[change])) == of(tmp_path, SOURCE)


@pytest.mark.parametrize("change", OF_MATTER)
def test_what_a_program_does_changes_the_digest(change, tmp_path, caches):
    assert of(tmp_path, edited(SOURCE, OF_MATTER[change])) != of(tmp_path, SOURCE)


def test_each_file_of_a_set_counts_at_its_place(tmp_path, caches):
    other = edited(SOURCE, OF_MATTER["a constant"])
    sets = [(SOURCE,), (SOURCE, other), (other, SOURCE), (other, other)]
    assert len({of(tmp_path, *texts) for texts in sets}) == len(sets)


DAMAGES = [b"", b"{", b"[]", b"\xff\xfe", b'{"schema": 1}', b"[" * 10**5]


@pytest.mark.parametrize("content", DAMAGES, ids=range(len(DAMAGES)))
def test_a_damaged_memo_is_ignored_and_made_whole(content, tmp_path, caches):
    whole = of(tmp_path, SOURCE)
    kept = code._memo().read_bytes()
    code._memo().write_bytes(content)
    assert of(tmp_path, SOURCE) == whole
    assert json.loads(code._memo().read_bytes()).items() >= json.loads(kept).items()


@pytest.mark.parametrize("kept", ["", "0" * 63, "g" * 64, None, 1, ["0" * 64]], ids=str)
def test_what_is_no_hash_in_a_memo_is_ignored(kept, tmp_path, caches):
    whole = of(tmp_path, SOURCE)
    code._memo().write_text(json.dumps(dict.fromkeys(json.loads(code._memo().read_text()), kept)))
    assert of(tmp_path, SOURCE) == whole


def test_a_tree_is_made_once(tmp_path, caches, monkeypatch):
    whole = of(tmp_path, SOURCE)
    monkeypatch.setattr(code, "_tree", None)
    assert of(tmp_path, SOURCE) == whole


def test_a_cache_that_cannot_be_written_to_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("a file where the folder should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert of(tmp_path, SOURCE) == of(tmp_path, SOURCE)


def test_a_memo_does_not_grow_without_end(tmp_path, caches, monkeypatch):
    monkeypatch.setattr(code, "_MOST", 3)
    for value in range(9):
        of(tmp_path, f"A = {value}")
    assert len(code._kept()) <= 4


def test_whole_exports_rest_on_every_file_of_their_rooms():
    names = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(code, "_of_names", lambda given: names.extend(given) or "")
        code.room_digest()
    root = Path(files.__file__).parent
    rooms = {
        path.relative_to(root).as_posix() for room in code._ROOMS for path in (root / room).rglob("*.py")
    }
    assert rooms | {"ops.py", "block_ops.py", "pixel_ops.py", "preparation.py"} == set(names)


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


def test_threads_that_ask_at_once_get_the_same_digest(caches):
    """Each device has a thread; a collection within the parser lets another one run, which CPython 3.11 does not bear."""

    def fresh(_):
        shutil.rmtree(cache.root() / "code", ignore_errors=True)
        code._of_names.cache_clear()
        return code.code_digest()

    def collected(phase, info):
        del phase, info
        time.sleep(0)

    threshold = gc.get_threshold()
    gc.callbacks.append(collected)
    gc.set_threshold(50)
    try:
        with ThreadPoolExecutor(4) as pool:
            assert set(pool.map(fresh, range(4))) == {code.code_digest()}
    finally:
        gc.callbacks.remove(collected)
        gc.set_threshold(*threshold)
