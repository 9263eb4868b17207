"""Core ML: a folded subnet to an ML program (.mlpackage, iOS 16 and later), and checking what was saved.

The model takes an RGB image of 0..255; normalisation is in the graph. A classifier has a softmax and class labels,
a segmenter gives an array: int32 labels of the pixels, or logits. Files are a folder, here as relative path -> bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from nasvit_edge import files
from nasvit_edge.errors import ExportError, NasvitEdgeError, VerifyError, require
from nasvit_edge.export import dense, mil, mil_reading
from nasvit_edge.export.formats import Conversion
from nasvit_edge.export.parity import in_batches
from nasvit_edge.export.quiet import quiet

if TYPE_CHECKING:
    from torch import Tensor, nn

SUFFIX = ".mlpackage"
RUNTIME = "coreml"
_KEY = "nasvit_edge"  # of the user-defined metadata
_MANIFEST = "Manifest.json"
_IMAGES = 16  # evaluated together
_SCENES = 4
MAC_TOLERANCE = 0.02  # of a probability, or share of labels: engines accumulate half precision differently
_Array = np.ndarray[Any, np.dtype[np.float32]]


def convert(module: nn.Module, shape: tuple[int, ...], recipe: Conversion | None = None) -> dict[str, bytes]:
    """The files of an ML program for a folded module that takes normalised images (B, 3, H, W).

    With labels in the recipe it takes a picture and is an image classifier, or a segmenter where the recipe has an
    output; without, inputs and outputs are plain tensors.
    fp16 computes in half precision except in norms, which sum over all N * C values; w8 has 8-bit weights
    with a scale per output channel besides. The bytes depend on module and recipe alone.
    """
    recipe = recipe or Conversion()
    if recipe.precision == "int8":
        raise ExportError(
            "Core ML can calibrate int8 activations only on a Mac; use --precision w8 (8-bit weights) here"
        )
    with quiet():
        model = _converted(module, shape, recipe)
        if recipe.precision == "w8":
            model = _with_8bit_weights(model)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, f"model{SUFFIX}")
            model.save(str(path))
            return _reproducible(files.read_tree(path, "package"))


device_model = convert
layers, placements = mil_reading.layers, mil_reading.placements


def _converted(module: nn.Module, shape: tuple[int, ...], recipe: Conversion) -> Any:
    tools = require("coremltools", "coreml")
    import torch

    picture = bool(recipe.labels) and shape[0] == 1
    classifier = picture and not recipe.output
    if picture:
        module = _on_pixels(module, recipe)
    kind = (
        tools.ImageType(name="image", shape=shape, scale=1 / 255, color_layout=tools.colorlayout.RGB)
        if picture
        else tools.TensorType(name="image", shape=shape)
    )
    half = tools.transform.FP16ComputePrecision(op_selector=lambda op: op.op_type != "layer_norm")
    try:
        program = torch.export.export(module.eval(), (torch.zeros(shape),)).run_decompositions({})
        return tools.convert(
            program,
            inputs=[kind],
            outputs=None if classifier else [_output(tools, recipe)],
            classifier_config=tools.ClassifierConfig(list(recipe.labels)) if classifier else None,
            minimum_deployment_target=tools.target.iOS16,
            compute_precision=tools.precision.FLOAT32 if recipe.precision == "fp32" else half,
            skip_model_load=True,
        )
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise ExportError(f"coremltools cannot convert this module: {reason}") from error


def _output(tools: Any, recipe: Conversion) -> Any:
    if recipe.output == dense.LABELS:
        return tools.TensorType(name=dense.LABELS, dtype=np.int32)
    return tools.TensorType(name="logits")


def _on_pixels(module: nn.Module, recipe: Conversion) -> nn.Module:
    """The module on RGB in [0, 1]; a classifier gives probabilities."""
    import torch
    from torch import nn

    class OnPixels(nn.Module):
        mean: Tensor
        scale: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.body = module
            self.register_buffer("mean", torch.tensor(recipe.mean).view(1, 3, 1, 1))
            self.register_buffer("scale", 1 / torch.tensor(recipe.std).view(1, 3, 1, 1))

        def forward(self, image: Tensor) -> Tensor:
            logits: Tensor = self.body((image - self.mean) * self.scale)
            return logits if recipe.output else torch.softmax(logits, 1)

    return OnPixels()


def _with_8bit_weights(model: Any) -> Any:
    tools = require("coremltools.optimize.coreml", "coreml")
    config = tools.OpLinearQuantizerConfig(mode="linear_symmetric", dtype="int8", weight_threshold=512)
    return tools.linear_quantize_weights(model, tools.OptimizationConfig(global_config=config))


def _reproducible(tree: dict[str, bytes]) -> dict[str, bytes]:
    """Without debug mapping and dates, and with identifiers that follow from the content."""
    spec = mil.empty_spec()
    spec.ParseFromString(tree[mil.MODEL])
    for key in list(spec.description.metadata.userDefined):
        del spec.description.metadata.userDefined[key]
    content = {mil.MODEL: spec.SerializeToString(deterministic=True)}
    if mil.WEIGHTS in tree:
        content[mil.WEIGHTS] = tree[mil.WEIGHTS]
    return _with_manifest(content)


def _with_manifest(content: dict[str, bytes]) -> dict[str, bytes]:
    entries = {
        "model.mlmodel": "CoreML Model Specification",
        **({"weights": "CoreML Model Weights"} if mil.WEIGHTS in content else {}),
    }
    seed = hashlib.sha256(b"".join(content[name] for name in sorted(content))).hexdigest()
    identifiers = {name: str(uuid.uuid5(uuid.NAMESPACE_OID, f"{seed}/{name}")) for name in entries}
    items = {
        identifiers[name]: {
            "author": "com.apple.CoreML",
            "description": text,
            "name": name,
            "path": f"com.apple.CoreML/{name}",
        }
        for name, text in entries.items()
    }
    manifest = {
        "fileFormatVersion": "1.0.0",
        "itemInfoEntries": items,
        "rootModelIdentifier": identifiers["model.mlmodel"],
    }
    return content | {_MANIFEST: json.dumps(manifest, indent=4, sort_keys=True).encode()}


def write_metadata(tree: dict[str, bytes], metadata: Mapping[str, str]) -> dict[str, bytes]:
    """The package with `metadata` as one JSON text among the model's user-defined metadata."""
    spec = mil.empty_spec()
    spec.ParseFromString(tree[mil.MODEL])
    about = spec.description.metadata
    about.shortDescription = f"NASViT subnet of space {metadata.get('space', '')}"
    about.versionString = metadata.get("nasvit_edge_version", "")
    about.userDefined[_KEY] = json.dumps(dict(metadata), sort_keys=True)
    for key, value in dense.xcode_preview(dict(metadata)).items():
        about.userDefined[key] = value
    content = {name: data for name, data in tree.items() if name != _MANIFEST}
    return _with_manifest(content | {mil.MODEL: spec.SerializeToString(deterministic=True)})


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata; VerifyError where the package is damaged, or would mislead an app."""
    with _readable(path):
        _check_manifest(path)
        program = mil.Program(path)
        for fault in program.faults():
            raise VerifyError(f"artifact {str(path)!r} would mislead an app: {fault}; export again")
        values = json.loads(program.spec.description.metadata.userDefined[_KEY])
        if not isinstance(values, dict) or not all(isinstance(v, str) for v in values.values()):
            raise VerifyError(f"artifact {str(path)!r} is damaged: its metadata are not text")
        classes = program.labels()
        if classes and classes != json.loads(values.get("labels", "[]")):
            raise VerifyError(f"artifact {str(path)!r}: its classes are not the labels in its metadata")
        return values


def _check_manifest(path: Path) -> None:
    """Core ML finds the model by the manifest alone."""
    manifest = json.loads((path / _MANIFEST).read_text(encoding="utf-8"))
    places = {key: item["path"] for key, item in manifest["itemInfoEntries"].items()}
    if places[manifest["rootModelIdentifier"]] != "com.apple.CoreML/model.mlmodel":
        raise VerifyError(f"artifact {str(path)!r}: its manifest names no model; export again")
    if not all(_within(place) and (path / "Data" / place).exists() for place in places.values()):
        raise VerifyError(f"artifact {str(path)!r}: its manifest names what is not there; export again")


def _within(place: str) -> bool:
    """Whether a manifest's path stays in the package."""
    return not PurePosixPath(place).is_absolute() and ".." not in PurePosixPath(place).parts


def runner(path: Path, threads: int = 1) -> Callable[[_Array], _Array]:
    """A function from normalised images (B, 3, H, W) to logits (B, classes), by evaluating the saved program.

    Of a segmenter to logits (B, classes, H', W') or int32 labels (B, H, W). On a Mac, Core ML predicts the same images,
    and probabilities (or a share of labels) that differ by more than `MAC_TOLERANCE` are a VerifyError. `threads` has no say.
    """
    del threads
    return _runner(path, rounded=True)


def plain_runner(path: Path, threads: int = 1) -> Callable[[_Array], _Array]:
    """As `runner`, by the evaluator alone and without half precision's rounding: nearly the same on every processor."""
    del threads
    return _runner(path, rounded=False)


def _runner(path: Path, *, rounded: bool) -> Callable[[_Array], _Array]:
    import torch

    with _readable(path):
        _check_manifest(path)
        program = mil.Program(path, rounded=rounded)
        kind = program.spec.description.input[0].type
        to_input = _to_pixels(path) if kind.WhichOneof("Type") == "imageType" else lambda images: images
        predict = _on_a_mac(path, program) if sys.platform == "darwin" and rounded else None
        several = 1 if predict is not None else _IMAGES if program.labels() else _SCENES
        size = several if kind.WhichOneof("Type") == "imageType" else int(kind.multiArrayType.shape[0])

    def call(images: _Array) -> _Array:
        with _readable(path):
            x = to_input(images)
            if predict is not None:  # Core ML itself takes 8-bit pixels only
                x = np.rint(x).clip(0, 255)
            output = program.run({program.inputs[0]: torch.from_numpy(x)})
            logits: _Array = (output if output.is_floating_point() else output.int()).numpy()
            if predict is not None:
                apart = _apart(logits, predict(x))
                if not apart <= MAC_TOLERANCE:
                    raise VerifyError(f"artifact {str(path)!r}: Core ML predicts otherwise (by {apart:.2g})")
            return logits

    return in_batches(call, size)


def _apart(outputs: _Array, predicted: _Array) -> float:
    """How far apart the logits (or labels) of the evaluator and the probabilities (or labels) of Core ML are."""
    if outputs.shape != predicted.shape:
        return float("inf")
    if np.issubdtype(outputs.dtype, np.integer):
        return float((outputs != predicted).mean())
    return float(np.abs(_softmax(outputs) - predicted).max())


def _softmax(logits: _Array) -> _Array:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def _to_pixels(path: Path) -> Callable[[_Array], _Array]:
    """From normalised images back to the 0..255 that the model takes."""
    try:
        preparation = json.loads(read_metadata(path)["preparation"])
        mean, std = (np.array(preparation[k], np.float32).reshape(3, 1, 1) for k in ("mean", "std"))
    except (KeyError, ValueError, TypeError, RecursionError):
        raise VerifyError(
            f"artifact {str(path)!r} does not say how images are prepared, or it is damaged; export again"
        ) from None
    return lambda images: ((images * std + mean) * 255).astype(np.float32)


def _on_a_mac(path: Path, program: mil.Program) -> Callable[[_Array], _Array] | None:
    """A function from pixels (1, 3, H, W) to probabilities (1, classes), or a segmenter's labels, by Core ML itself."""
    labels = program.labels()
    if program.spec.description.input[0].type.WhichOneof("Type") != "imageType":
        return None
    model = require("coremltools", "coreml").models.MLModel(str(path))
    from PIL import Image

    def predict(x: _Array) -> _Array:
        picture = Image.fromarray(x[0].transpose(1, 2, 0).astype(np.uint8))
        answer = model.predict({"image": picture})
        if not labels:
            name = str(program.spec.description.output[0].name)
            output: _Array = np.asarray(answer[name])
            return output.astype(np.int32) if name == dense.LABELS else _softmax(output)
        shares = next(v for v in answer.values() if isinstance(v, dict))
        return np.array([[shares[label] for label in labels]], np.float32)

    return predict


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Whatever a damaged package makes the parsers raise becomes one line."""
    try:
        yield
    except NasvitEdgeError:
        raise
    except Exception as error:  # noqa: BLE001 - a damaged program can break any operation in any way
        reason = (str(error).splitlines() or [""])[0][:120]
        raise VerifyError(
            f"artifact {str(path)!r} is damaged ({type(error).__name__}: {reason}); export again"
        ) from None
