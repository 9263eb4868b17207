"""TFLite: a folded module through litert-torch, and running it with LiteRT.

Inputs and image-like outputs are channels-last (B, H, W, C), as TFLite programs expect.
"""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nasvit_edge import files
from nasvit_edge.errors import ExportError, VerifyError, require
from nasvit_edge.export import tflite_graph, tflite_reading
from nasvit_edge.export.formats import Conversion, node_prefix
from nasvit_edge.export.parity import in_batches
from nasvit_edge.export.quiet import muted, quiet
from nasvit_edge.latency.names import MIXED

if TYPE_CHECKING:
    from torch import nn

    from nasvit_edge.model.subnet import Subnet

SUFFIX = ".tflite"
RUNTIME = "litert"
_METADATA = "metadata.json"
_Array = np.ndarray[Any, np.dtype[np.float32]]


_LAYERS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
_BETWEEN = ("LOGISTIC", "MUL", "PAD")  # what convolutions give to each other passes these
_CONVOLUTIONS = (
    "(StemBlock|MBConvBlock)"  # where they do; sums and means in 8 bits would cost most of the accuracy
)
_LAST = "^(?!.*(Sequential|Segmenter)_wrapped/)"  # the output has no name of a module: it belongs to the classifier
_CLASSIFIERS = ("classifier", "pixel_classifier")
_FLOAT_LAYERS: Mapping[str, tuple[str, ...]] = {  # of what int8 rounds, by an op's precision in a mixed file
    "fp32": (*_LAYERS, *_BETWEEN),
    "dynamic": ("CONV_2D", "DEPTHWISE_CONV_2D", *_BETWEEN),
    "int8": (),
}


def convert(module: nn.Module, shape: tuple[int, ...], recipe: Conversion | None = None) -> bytes:
    """A TFLite model of a folded module for inputs of `shape` (B, C, H, W) or (B, C), in PyTorch's order.

    The file's input is (B, H, W, C), float32 in every precision; its output is channels-last too where it has
    channels. fp16 stores weights in half precision, w8 in 8 bits; int8 computes
    convolutions and linear layers with integers, but not those of `recipe.kept`; dynamic does so in linear layers alone, by the
    range of the values at hand, and needs no calibration. mixed has ops in one of fp32, dynamic and int8 each (`recipe.mixed`).
    """
    recipe = recipe or Conversion()
    with quiet():
        model = _float_model(_named(module), shape)
        with muted():  # which runs the model for the ranges of int8
            return at_precision(model, shape[0], recipe)


device_model = convert
layers, placements = tflite_reading.layers, tflite_reading.placements


def chained(
    models: Sequence[bytes], names: Sequence[str], sources: Sequence[int], recipe: Conversion
) -> bytes:
    """One model of those of its ops, in floating point, at the precision of the recipe."""
    with quiet():
        return at_precision(tflite_graph.chain(models, names, sources), 1, recipe)


def resized(model: bytes, shape: tuple[int, ...], recipe: Conversion) -> bytes:
    """An op's model, in floating point, for inputs of another `shape` (B, C, H, W), at the precision of the recipe."""
    batch, channels, height, width = shape
    with quiet():
        return at_precision(tflite_graph.resized(model, (batch, height, width, channels)), 1, recipe)


def _named(module: nn.Module) -> nn.Module:
    """A subnet as a sequence of its ops, so that every tensor's name holds the op's; a segmenter as what they are inside."""
    from torch import nn

    from nasvit_edge.model.subnet import PixelLabels, Subnet

    if isinstance(module, PixelLabels):
        return _segmenter(module.subnet, labels=True)
    ops = getattr(module, "ops", None)
    if ops is None:
        return module
    if isinstance(module, Subnet) and module.space.is_dense:
        return _segmenter(module, labels=False)
    blocks = {node_prefix(op.name): module.get_submodule(op.name) for op in ops}
    return nn.Sequential(OrderedDict(blocks)).eval()


def _segmenter(subnet: Subnet, *, labels: bool) -> nn.Module:
    """A subnet of a dense space with its ops as children, named after them; with or without its labels."""
    from torch import Tensor, nn

    from nasvit_edge.model.walk import run
    from nasvit_edge.ops import Op

    class Segmenter(nn.Module):
        def __init__(self, ops: tuple[Op, ...]) -> None:
            super().__init__()
            self.ops = ops
            for op in ops:
                self.add_module(node_prefix(op.name), subnet.get_submodule(op.name))

        def apply_op(self, op: Op, x: Tensor) -> Tensor:
            return self.get_submodule(node_prefix(op.name))(x)

        def forward(self, x: Tensor) -> Tensor:
            logits = run(self.ops, self.apply_op, x)
            return self.apply_op(self.ops[-1], logits) if labels else logits

    return Segmenter(subnet.ops).eval()


def at_precision(model: bytes, batch: int, recipe: Conversion) -> bytes:
    """A float32 model for `batch` images at the precision of the recipe."""
    if recipe.precision == "fp32":
        return model
    tools = require("ai_edge_quantizer", "tflite")
    quantizer = tools.quantizer.Quantizer(bytearray(model))
    ranged = recipe.precision == "int8" or "int8" in recipe.mixed.values()
    if ranged:
        _add_int8(quantizer, segments=bool(recipe.output))
    elif recipe.precision in ("dynamic", MIXED):
        quantizer.add_dynamic_config(".*", "FULLY_CONNECTED", num_bits=8)
    else:
        for layer in _LAYERS:
            _add_rule(tools, quantizer, layer, recipe.precision)
    for name in recipe.kept:
        _keep(quantizer, name, (*_LAYERS, *_BETWEEN))
    for name, precision in recipe.mixed.items():
        _keep(quantizer, name, _FLOAT_LAYERS[precision])
    ranges = None
    if ranged:
        assert recipe.calibration is not None
        count = max(1, len(recipe.calibration) // batch) * batch
        images = np.resize(recipe.calibration, (count, *recipe.calibration.shape[1:]))
        images = images if images.ndim == 2 else images.transpose(0, 2, 3, 1)
        parts = images.reshape(-1, batch, *images.shape[1:])
        ranges = quantizer.calibrate({"serving_default": [{"args_0": part} for part in parts]})
    return bytes(quantizer.quantize(ranges).quantized_model)


def _keep(quantizer: Any, op: str, layers: Sequence[str]) -> None:
    """Layers of an op that stay in floating point."""
    scope = f"_{node_prefix(op)}[/;]"
    for layer in layers:
        quantizer.update_quantization_recipe(
            regex=f"{scope}|{_LAST}" if op in _CLASSIFIERS else scope,
            operation_name=layer,
            algorithm_key="no_quantize",
        )


def _add_int8(quantizer: Any, *, segments: bool) -> None:
    """Convolutions with what is between them by ranges known before; linear layers by those of the values at hand.

    Norms, softmax and head mixing stay in floating point: in 8 bits they lose too much (docs/tflite.md). Between them a linear
    layer is fastest that takes and gives floats, and rounds what it is given itself. Logits in 8 bits would saturate.
    """
    for layer in ("CONV_2D", "DEPTHWISE_CONV_2D"):
        quantizer.add_static_config(".*", layer, activation_num_bits=8, weight_num_bits=8)
    for op in _BETWEEN:
        quantizer.add_static_config(_CONVOLUTIONS, op, activation_num_bits=8, weight_num_bits=8)
    quantizer.add_dynamic_config(".*", "FULLY_CONNECTED", num_bits=8)
    pixels = f"_{node_prefix('pixel_classifier')}[/;]" + (f"|{_LAST}" if segments else "")
    quantizer.add_weight_only_config(pixels, "CONV_2D", num_bits=8)


def _add_rule(tools: Any, quantizer: Any, layer: str, precision: str) -> None:
    if precision == "w8":
        quantizer.add_weight_only_config(regex=".*", operation_name=layer, num_bits=8)
    else:
        types = tools.qtyping
        half = types.TensorQuantizationConfig(num_bits=16, dtype=types.TensorDataType.FLOAT)
        quantizer.update_quantization_recipe(
            regex=".*",
            operation_name=layer,
            op_config=types.OpQuantizationConfig(
                weight_tensor_config=half,
                compute_precision=types.ComputePrecision.FLOAT,
                explicit_dequantize=True,
            ),
            algorithm_key="float_casting",
        )


def _float_model(module: nn.Module, shape: tuple[int, ...]) -> bytes:
    with muted():
        litert_torch = require("litert_torch", "tflite")
    require("litert_torch._config", "tflite").config.show_progress = False
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
    """A function from images (B, 3, H, W) to logits (B, classes), of a segmenter (B, classes, H', W') or labels (B, H, W).

    By LiteRT on the CPU.
    """
    return _runner(path, threads, "AUTO")


def plain_runner(path: Path, threads: int = 1) -> Callable[[_Array], _Array]:
    """As `runner`, by LiteRT's reference kernels: slow, and the same on every processor."""
    return _runner(path, threads, "BUILTIN_REF")


def _runner(path: Path, threads: int, kernels: str) -> Callable[[_Array], _Array]:
    interpreters = require("ai_edge_litert.interpreter", "tflite")
    try:
        with muted():
            interpreter = interpreters.Interpreter(
                model_content=files.read_bytes(path, "artifact"),
                num_threads=threads,
                experimental_op_resolver_type=interpreters.OpResolverType[kernels],
            )
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        reason = (str(error).splitlines() or ["unreadable"])[0][:200]
        raise VerifyError(f"artifact {str(path)!r} does not load: {reason}") from None
    image, logits = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

    def call(images: _Array) -> _Array:
        try:
            interpreter.set_tensor(image["index"], np.ascontiguousarray(images.transpose(0, 2, 3, 1)))
            interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            reason = (str(error).splitlines() or ["unknown"])[0][:200]
            raise VerifyError(f"artifact {str(path)!r} does not run: {reason}") from None
        output: _Array = interpreter.get_tensor(logits["index"])
        return np.ascontiguousarray(output.transpose(0, 3, 1, 2)) if output.ndim == 4 else output.copy()

    return in_batches(call, int(image["shape"][0]))
