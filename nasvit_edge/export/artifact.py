"""Artifacts: a model file, its sidecar JSON, and the reference it was checked against.

NAME.onnx                        the model, with labels, normalisation and config inside
NAME.onnx.json                   the sidecar: hash, sizes, versions, the check's outcome
NAME.onnx.reference.safetensors  batch-norm statistics and the elastic supernet's logits
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nasvit_edge import data_sets, files
from nasvit_edge.errors import ExportError, NasvitEdgeError, VerifyError
from nasvit_edge.export import parity
from nasvit_edge.export.formats import Format, format_of, load_format
from nasvit_edge.ops import macs
from nasvit_edge.space import SearchSpace, SubnetConfig, load_space

if TYPE_CHECKING:
    from torch import Tensor

    from nasvit_edge.model.subnet import Subnet
    from nasvit_edge.model.supernet import Supernet

SCHEMA = 1
_PACKAGES = ("nasvit-edge", "torch", "onnx", "onnxruntime", "litert-torch", "ai-edge-litert", "numpy")


@dataclass(frozen=True, slots=True)
class Check:
    """The outcome of one verification."""

    error: float
    tolerance: float
    inputs: int
    real_images: int
    reference: str  # "supernet" where it was recomputed, "stored" where the weights are not here

    @property
    def passed(self) -> bool:
        return self.error <= self.tolerance


def export(
    supernet: Supernet,
    subnet: Subnet,
    format_name: str,
    path: Path,
    *,
    precision: str = "fp32",
    overwrite: bool = False,
    uncalibrated: bool = False,
    extra: Mapping[str, Any] | None = None,
) -> Check:
    """Write `subnet` (unfolded, taken from `supernet`) to `path` and check what was written.

    Raises:
        ExportError: the path exists, the precision is not there, or the subnet is not calibrated.
        VerifyError: the file does not compute what the supernet does; nothing is left behind.
    """
    form = load_format(format_name)
    path = checked_path(form, path, precision, overwrite)
    if subnet.calibration is None and not uncalibrated:
        raise ExportError(
            "the subnet's batch norm is not calibrated, so its accuracy would be lost: "
            "add --calibrate DATA (for example --calibrate bundled), or --uncalibrated to insist"
        )
    return _write(supernet, subnet, form, path, precision, dict(extra or {}))


def checked_path(form: Format, path: Path, precision: str, overwrite: bool) -> Path:
    """Refuse early what cannot be written."""
    if precision not in form.precisions:
        raise ExportError(
            f"format {form.name!r} has no precision {precision!r}; it has {', '.join(form.precisions)}"
        )
    if path.suffix != form.suffix:
        raise ExportError(f"{str(path)!r} should end in {form.suffix!r} for format {form.name!r}")
    if path.exists() and not overwrite:
        raise ExportError(f"{str(path)!r} exists; choose another --out or add --overwrite")
    files.writable_folder(path.parent)
    return path


def _write(
    supernet: Supernet, subnet: Subnet, form: Format, path: Path, precision: str, extra: dict[str, Any]
) -> Check:
    from safetensors.torch import save

    from nasvit_edge.model.subnet import fold, statistics

    stats = {name: value.contiguous() for name, value in statistics(subnet).items()}
    resolution = subnet.config.resolution
    images, real = parity.inputs(subnet.space, resolution)
    expected = parity.reference(supernet, subnet.config, stats, images)
    metadata = describe(subnet, precision, form)
    model = form.module().convert(fold(subnet, form.layout), (1, 3, resolution, resolution))
    content = form.module().write_metadata(model, metadata)
    error = _run_copy(form, content, images, expected)
    check = Check(error, form.tolerance[precision], len(images), real, "supernet")
    if not check.passed:
        raise VerifyError(
            f"the {form.name} file is off by {error:.2g} of the logits' spread (allowed {check.tolerance:.0e}); nothing was written"
        )
    import torch

    reference = save(stats | {"logits": torch.from_numpy(np.ascontiguousarray(expected))})
    files.write_bytes(reference_path(path), reference)
    files.write_bytes(path, content)
    sidecar = _sidecar(content, reference, metadata, form, precision, check) | extra
    files.write_json(sidecar_path(path), sidecar)
    return check


def _run_copy(form: Format, content: bytes, images: Any, expected: Any) -> float:
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, f"model{form.suffix}")
        copy.write_bytes(content)
        return parity.relative_error(form.module().runner(copy)(images), expected)


def describe(subnet: Subnet, precision: str, form: Format) -> dict[str, str]:
    """What a program needs to use the model, and what the model is; every value is text (JSON where not plain)."""
    space, source = subnet.space, subnet.source
    values: dict[str, Any] = {
        "nasvit_edge_version": importlib.metadata.version("nasvit-edge"),
        "space": space.name,
        "config": subnet.config.to_dict(),
        "precision": precision,
        "labels": space.label_names(),
        "mean": space.mean,
        "std": space.std,
        "input_layout": form.layout,
        "color": "RGB",
        "value_range": "RGB in [0, 1], minus mean, over std",
        "resize": "bicubic",
        "resolution": subnet.config.resolution,
        "weights": source,
        "calibration": subnet.calibration or "none: batch norm not calibrated",
        "macs": macs(space, subnet.config),
    }
    if source.get("kind") == "random":
        values["warning"] = source["warning"]
    return {k: v if isinstance(v, str) else json.dumps(v, sort_keys=True) for k, v in values.items()}


def _sidecar(
    content: bytes, reference: bytes, metadata: dict[str, str], form: Format, precision: str, check: Check
) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "format": form.name,
        "precision": precision,
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "reference_sha256": hashlib.sha256(reference).hexdigest(),
        "metadata": metadata,
        "check": {
            "error": check.error,
            "tolerance": check.tolerance,
            "inputs": check.inputs,
            "real_images": check.real_images,
            "seed": 0,
        },
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """The versions of everything that had a part in a file."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def sidecar_path(path: Path) -> Path:
    """`model.onnx` -> `model.onnx.json`."""
    return path.with_name(f"{path.name}.json")


def reference_path(path: Path) -> Path:
    """`model.onnx` -> `model.onnx.reference.safetensors`."""
    return path.with_name(f"{path.name}.reference.safetensors")


@dataclass(frozen=True, slots=True)
class Artifact:
    """An artifact with its sidecar read and its hash checked."""

    path: Path
    form: Format
    precision: str
    metadata: dict[str, str]
    sidecar: dict[str, Any]

    def space(self, override: str | None = None) -> SearchSpace:
        """The search space it is from; a user's own is given by path."""
        try:
            return load_space(override or self.metadata["space"])
        except NasvitEdgeError as error:
            raise VerifyError(f"artifact {str(self.path)!r}: {error}; give its TOML with --space") from None

    def config(self, space: SearchSpace) -> SubnetConfig:
        """The subnet."""
        return space.config_from(self._object("config"), f"config of {str(self.path)!r}")

    def weights(self) -> dict[str, Any]:
        """Where the weights are from."""
        return self._object("weights")

    def _object(self, key: str) -> dict[str, Any]:
        try:
            value = json.loads(self.metadata[key])
        except (ValueError, TypeError, RecursionError) as error:
            raise VerifyError(f"sidecar of {str(self.path)!r}: {key!r} is no JSON: {error}") from None
        if not isinstance(value, dict):
            raise VerifyError(f"sidecar of {str(self.path)!r}: {key!r} is no object")
        return value


def open_artifact(path: Path) -> Artifact:
    """Read sidecar and metadata and check that they belong to the file.

    Raises:
        VerifyError: the file was changed, cut short, or its metadata are not those of the sidecar.
    """
    form = format_of(path.suffix)
    content = files.read_bytes(path, "artifact")
    sidecar = files.read_json(sidecar_path(path), "sidecar", SCHEMA)
    metadata = sidecar.get("metadata")
    if not isinstance(metadata, dict) or not {"space", "config", "weights"} <= set(metadata):
        raise VerifyError(f"sidecar of {str(path)!r} has no metadata; export again")
    if sidecar.get("bytes") != len(content) or sidecar.get("sha256") != hashlib.sha256(content).hexdigest():
        raise VerifyError(
            f"artifact {str(path)!r} is not the file that was exported (its hash differs); export again"
        )
    if form.module().read_metadata(path) != metadata:
        raise VerifyError(
            f"artifact {str(path)!r}: the metadata inside differ from its sidecar; export again"
        )
    precision = str(sidecar.get("precision"))
    if precision not in form.tolerance:
        raise VerifyError(f"sidecar of {str(path)!r}: unknown precision {precision!r}")
    return Artifact(path, form, precision, metadata, sidecar)


def verify(path: Path, *, weights: str | None = None, space_path: str | None = None) -> Check:
    """Repeat the check of an artifact against the elastic supernet.

    The supernet is `weights` where given, rebuilt where it was random or is shipped with the package;
    otherwise the logits stored at export time stand in for it, and the outcome says "stored".
    """
    artifact = open_artifact(path)
    space = artifact.space(space_path)
    config = artifact.config(space)
    stats, stored = _read_reference(artifact)
    images, real = parity.inputs(space, config.resolution)
    supernet = _supernet_of(artifact, space, weights)
    if supernet is None:
        expected, kind = stored, "stored"
    else:
        expected, kind = parity.reference(supernet, config, stats, images), "supernet"
    logits = artifact.form.module().runner(path)(images)
    error = parity.relative_error(logits, expected)
    return Check(error, artifact.form.tolerance[artifact.precision], len(images), real, kind)


def _read_reference(artifact: Artifact) -> tuple[dict[str, Tensor], Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    path = reference_path(artifact.path)
    content = files.read_bytes(path, "reference")
    if hashlib.sha256(content).hexdigest() != artifact.sidecar.get("reference_sha256"):
        raise VerifyError(f"reference {str(path)!r} is not the one that was exported; export again")
    try:
        tensors = load(content)
        logits = tensors.pop("logits").numpy()
    except (SafetensorError, KeyError, ValueError) as error:
        raise VerifyError(f"reference {str(path)!r} is damaged: {error}") from None
    return tensors, logits


def _supernet_of(artifact: Artifact, space: SearchSpace, weights: str | None) -> Supernet | None:
    from nasvit_edge.model.checkpoint import load_supernet, shipped_weights

    source = artifact.weights()
    if weights is not None:
        supernet = load_supernet(weights, space)
        if supernet.source.get("sha256") != source.get("sha256") or supernet.source.get("seed") != source.get(
            "seed"
        ):
            raise VerifyError(f"{weights!r} are not the weights that {str(artifact.path)!r} was made from")
        return supernet
    if source.get("kind") == "random" and type(source.get("seed")) is int:
        return load_supernet(f"random:{source['seed']}", space)
    name = shipped_weights(str(source.get("sha256")))
    return load_supernet(name, space) if name else None


def evaluate(path: Path, data: str, *, threads: int = 1, space_path: str | None = None) -> dict[str, Any]:
    """The artifact's top-1 on labelled images (`bundled`, `fashion-mnist` or a folder), by its own runtime."""
    artifact = open_artifact(path)
    space = artifact.space(space_path)
    config = artifact.config(space)
    if data == data_sets.BUNDLED and not data_sets.has_bundled(space):
        raise NasvitEdgeError(f"no images are bundled for space {space.name!r}; give a folder with --data")
    images = data_sets.load_images(data, "test", space, config.resolution)
    run = artifact.form.module().runner(path, threads)
    correct = parity.top1(run, images, space, config.resolution)
    return {
        "artifact": path.name,
        "data": images.name,
        "images": len(images),
        "correct": correct,
        "accuracy": correct / len(images),
    }
