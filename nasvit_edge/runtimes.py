"""Runtimes: what runs and times a model file; a table is of one."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    RuntimeName = str


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """What reads files of one format, on one kind of unit.

    Attributes:
        form: the format of the files that it reads.
        distributions: the packages that are this runtime on a computer; the first that is installed counts.
        install: how a device gets it.
        units: of Core ML, what the program on the device is asked for.
    """

    form: str
    distributions: tuple[str, ...] = ()
    install: str = "it comes with the device's own program"
    units: str | None = None

    def version(self) -> str | None:
        """The version that is installed here; None: none is, or it is no package."""
        for name in self.distributions:
            try:
                return importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                continue
        return None


RUNTIMES = {
    "litert": Runtime(
        form="tflite",
        distributions=("ai-edge-litert", "tflite-runtime"),
        install="run there: python3 -m pip install numpy ai-edge-litert",
    ),
    "litert-gpu": Runtime(form="tflite"),
    "onnxruntime": Runtime(
        form="onnx",
        distributions=("onnxruntime",),
        install="run there: python3 -m pip install numpy onnxruntime",
    ),
    "onnxruntime-web": Runtime(form="onnx"),
    "onnxruntime-webgpu": Runtime(form="onnx"),
    "tensorrt": Runtime(
        form="tensorrt",
        install="install NVIDIA's JetPack (apt install nvidia-jetpack), or give the path of trtexec as `tool`",
    ),
    "coreml": Runtime(form="coreml", units="all"),
    "coreml-ne": Runtime(form="coreml", units="cpuAndNeuralEngine"),
    "coreml-gpu": Runtime(form="coreml", units="cpuAndGPU"),
    "coreml-cpu": Runtime(form="coreml", units="cpuOnly"),
}
if not TYPE_CHECKING:
    RuntimeName = Literal[tuple(RUNTIMES)]  # what a record takes
