"""A hash of the code that makes graphs: what was made by other code is not taken for what this code makes."""

from __future__ import annotations

import ast
import functools
import hashlib
from pathlib import Path

from nasvit_edge import files

_LOWERING = (
    "ops.py",
    "model/blocks.py",
    "model/folded.py",
    "export/onnx.py",
    "export/onnx_graph.py",
    "export/tflite.py",
    "export/tflite_graph.py",
)


@functools.cache
def code_digest() -> str:
    """A hash of the code that makes graphs, comments and docstrings aside."""
    root = Path(files.__file__).parent
    digest = hashlib.sha256()
    for name in _LOWERING:
        tree = ast.parse((root / name).read_text())
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
