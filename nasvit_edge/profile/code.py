"""A hash of the code that makes graphs: what was made by other code is not taken for what this code makes."""

from __future__ import annotations

import ast
import functools
import hashlib
import threading
from pathlib import Path

from nasvit_edge import files

_LOWERING = (
    "ops.py",
    "block_ops.py",
    "pixel_ops.py",
    "model/blocks.py",
    "model/folded.py",
    "model/folding.py",
    "model/rewrites.py",
    "model/walk.py",
    "export/onnx.py",
    "export/onnx_graph.py",
    "export/tflite.py",
    "export/tflite_graph.py",
)


_OTHERS = (
    "export/coreml.py",
    "export/mil.py",
    "export/mil_operations.py",
    "model/checkpoint.py",
    "profile/models.py",
)


def code_digest() -> str:
    """A hash of the code that makes graphs, comments and docstrings aside: it decides latencies."""
    return _digest(_LOWERING)


def conversion_digest() -> str:
    """A hash of the code that makes model files: graphs and the generic weights in them."""
    return _digest((*_LOWERING, *_OTHERS))


_ONE_AT_A_TIME = threading.Lock()


def _digest(names: tuple[str, ...]) -> str:
    # devices are measured by threads of their own, and CPython 3.11's parser fails where two of them make trees at once
    with _ONE_AT_A_TIME:
        return _digest_of(names)


@functools.cache
def _digest_of(names: tuple[str, ...]) -> str:
    root = Path(files.__file__).parent
    digest = hashlib.sha256()
    for name in names:
        tree = ast.parse((root / name).read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            body = getattr(node, "body", None)
            if (
                isinstance(body, list)
                and body
                and isinstance(body[0], ast.Expr)
                and isinstance(body[0].value, ast.Constant)
            ):
                body.pop(0)
        digest.update(ast.dump(tree).encode())
    return digest.hexdigest()[:16]
