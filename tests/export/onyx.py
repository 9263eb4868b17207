"""A format for tests: ONNX under another name. All that a new format is: this module, and a folder with its format.toml."""

from nasvit_edge.export.onnx import (
    convert,
    device_model,
    layers,
    placements,
    plain_runner,
    read_metadata,
    runner,
    write_metadata,
)

__all__ = [
    "convert",
    "device_model",
    "layers",
    "placements",
    "plain_runner",
    "read_metadata",
    "runner",
    "write_metadata",
]
