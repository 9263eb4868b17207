"""A digest of our own code: what other code made is not taken for what this code makes.

It is of the syntax trees, so comments, docstrings and how lines are broken do not change it. A tree takes 5 ms, so its digest is kept in
the user's cache by the bytes of its file.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import json
import re
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from nasvit_edge import cache, files
from nasvit_edge.errors import NasvitEdgeError

_LOWERING = (
    "ops.py",
    "block_ops.py",
    "pixel_ops.py",
    "network_ops.py",
    "model/blocks.py",
    "model/networks.py",
    "model/folded.py",
    "model/folding.py",
    "model/rewrites.py",
    "model/walk.py",
    "export/onnx.py",
    "export/onnx_graph.py",
    "export/onnx_traced.py",
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
_ROOMS = ("data_sets", "model", "export", "train")  # whose code, with ops and weights, decides whole exports
_PACKAGE = Path(__file__).resolve().parent
_DIGEST = re.compile(r"[0-9a-f]{64}")
_MOST = 2000  # trees kept: some versions of the package
_ONE_AT_A_TIME = threading.Lock()


def code_digest() -> str:
    """A hash of the code that makes graphs: it decides latencies."""
    return _of_names(_LOWERING)[:16]


def conversion_digest() -> str:
    """A hash of the code that makes model files: graphs and the generic weights in them."""
    return _of_names((*_LOWERING, *_OTHERS))[:16]


def room_digest() -> str:
    """A hash of all that decides whole exports and accuracies: rooms of code, shipped weights and recipes."""
    rooms = [
        path.relative_to(_PACKAGE) for room in _ROOMS for path in sorted((_PACKAGE / room).rglob("*.py"))
    ]
    names = [path.as_posix() for path in rooms]
    code = _of_names((*names, "block_ops.py", "ops.py", "pixel_ops.py", "preparation.py"))
    shipped = [*sorted(files.data("weights").glob("*")), *sorted(files.data("recipes").glob("*.toml"))]
    return _hash("".join([code, *map(files.sha256, shipped)]).encode())


def digest(paths: Sequence[Path]) -> str:
    """One hash of Python files in this order; SyntaxError where one is none."""
    # devices are measured by threads of their own, and CPython 3.11's parser fails where two of them make trees at once
    with _ONE_AT_A_TIME:
        known = _kept()
        contents = [files.read_bytes(path, "source") for path in paths]
        keys = [_hash(content) for content in contents]
        new = {key: _tree(content) for key, content in zip(keys, contents, strict=True) if key not in known}
        if new:
            _keep(new if len(known) > _MOST else known | new)
    return _hash("".join((known | new)[key] for key in keys).encode())


@functools.cache
def _of_names(names: tuple[str, ...]) -> str:
    return digest([_PACKAGE / name for name in names])


def _tree(content: bytes) -> str:
    """The hash of a file's syntax tree without texts that stand alone, as docstrings do."""
    tree = ast.parse(content)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_text(body[0]):
            body.pop(0)
    return _hash(ast.dump(tree).encode())


def _is_text(node: ast.AST) -> bool:
    constant = node.value if isinstance(node, ast.Expr) else None
    return isinstance(constant, ast.Constant) and isinstance(constant.value, str)


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# -- what was parsed before; a cache that is damaged or cannot be used is no error ------------------------------------


def _memo() -> Path:
    """Of each Python its own: trees differ between versions."""
    return cache.root() / "code" / f"trees-{sys.version_info.major}.{sys.version_info.minor}.json"


def _kept() -> dict[str, str]:
    """Hash of a file's bytes -> hash of its tree; what is damaged is left out (a wrong hash is no other code's)."""
    try:
        kept = files.loads(_memo().read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    pairs = kept.items() if isinstance(kept, dict) else ()
    return {key: tree for key, tree in pairs if isinstance(tree, str) and _DIGEST.fullmatch(tree)}


def _keep(trees: dict[str, str]) -> None:
    with contextlib.suppress(NasvitEdgeError, OSError):
        files.write_bytes(_memo(), json.dumps(trees).encode())
