"""A format for tests: ONNX under another name. All that a new format is: this module, and a folder with its format.toml."""

from nasvit_edge.export.onnx import *  # noqa: F403
