"""From a folded subnet to the file a runtime reads: one module a format."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # each format's module is one, as mypy sees
    from nasvit_edge.export import coreml, onnx, tensorrt, tflite
    from nasvit_edge.export.formats import Chaining, Converter

    CONVERTERS: tuple[Converter, ...] = (coreml, onnx, tensorrt, tflite)
    CHAINING: tuple[Chaining, ...] = (tflite,)
