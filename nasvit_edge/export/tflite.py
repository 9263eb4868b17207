"""TFLite: a folded module through litert-torch, and running it with LiteRT.

Inputs and image-like outputs are channels-last (B, r, r, 3), as TFLite programs expect.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nasvit_edge import files
from nasvit_edge.errors import ExportError, VerifyError, require

if TYPE_CHECKING:
    from torch import nn

SUFFIX = ".tflite"
RUNTIME = "litert"
_METADATA = "metadata.json"
_Array = np.ndarray[Any, np.dtype[np.float32]]


def convert(module: nn.Module, shape: tuple[int, ...]) -> bytes:
    """A TFLite model of a folded module for inputs of `shape` (B, C, H, W) or (B, C), in PyTorch's order.

    The file's input is (B, H, W, C); so is its output where it is an image.
    """
    with _quiet():
        litert_torch = require("litert_torch", "tflite")
        import torch

        sample = torch.zeros(shape)
        with torch.no_grad():
            image_out = module(sample).dim() == 4
        if len(shape) == 4:
            module = litert_torch.to_channel_last_io(module, args=[0], outputs=[0] if image_out else [])
            sample = sample.permute(0, 2, 3, 1)
        try:
            edge = litert_torch.convert(module.eval(), (sample,))
        except Exception as error:
            raise ExportError(f"litert-torch cannot convert this module: {error}") from error
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "model.tflite")
            edge.export(str(path))
            return path.read_bytes()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The converter's import and passes print and warn a lot that users can do nothing about."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # read when the converter's library loads
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            require("litert_torch._config", "tflite").config.show_progress = False
            yield
    finally:
        logging.disable(level)


def write_metadata(model: bytes, metadata: Mapping[str, str]) -> bytes:
    """The model with `metadata` as a zip entry behind the flatbuffer, where readers of TFLite ignore it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        entry = zipfile.ZipInfo(_METADATA)  # the fixed date of 1980: same input, same bytes
        archive.writestr(entry, json.dumps(dict(metadata), sort_keys=True))
    return model + buffer.getvalue()


def read_metadata(path: Path) -> dict[str, str]:
    """The entries written by `write_metadata`."""
    try:
        with zipfile.ZipFile(io.BytesIO(files.read_bytes(path, "artifact"))) as archive:
            values = json.loads(archive.read(_METADATA))
    except (zipfile.BadZipFile, KeyError, ValueError, OSError, NotImplementedError) as error:
        raise VerifyError(f"artifact {str(path)!r} is damaged or none of ours: {error}") from None
    if not isinstance(values, dict) or not all(isinstance(v, str) for v in values.values()):
        raise VerifyError(f"artifact {str(path)!r} is damaged: its metadata are not text")
    return values


def runner(path: Path, threads: int = 1) -> Callable[[_Array], _Array]:
    """A function from images (B, 3, r, r) to logits (B, classes), by LiteRT on the CPU."""
    interpreters = require("ai_edge_litert.interpreter", "tflite")
    try:
        interpreter = interpreters.Interpreter(
            model_content=files.read_bytes(path, "artifact"), num_threads=threads
        )
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        reason = (str(error).splitlines() or ["unreadable"])[0][:200]
        raise VerifyError(f"artifact {str(path)!r} does not load: {reason}") from None
    image, logits = (
        d[0]["index"] for d in (interpreter.get_input_details(), interpreter.get_output_details())
    )

    def run(images: _Array) -> _Array:
        outputs = []
        for x in images:
            interpreter.set_tensor(image, np.ascontiguousarray(x.transpose(1, 2, 0)[None]))
            interpreter.invoke()
            outputs.append(interpreter.get_tensor(logits).copy())
        return np.concatenate(outputs)

    return run
