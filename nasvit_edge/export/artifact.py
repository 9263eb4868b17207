"""Artifacts: a model file (or folder), its sidecar JSON, and the reference it was checked against.

NAME.onnx                        the model, with labels, normalisation and config inside
NAME.onnx.json                   the sidecar: hash, sizes, versions, the check's outcome
NAME.onnx.reference.safetensors  batch-norm statistics, the elastic supernet's logits and the file's own
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasvit_edge import files
from nasvit_edge.data_sets.labels import IMAGENET
from nasvit_edge.device import cpu_model
from nasvit_edge.errors import NasvitEdgeError, VerifyError
from nasvit_edge.export import dense
from nasvit_edge.export.formats import Content, Format, format_of
from nasvit_edge.ops import macs
from nasvit_edge.space import SearchSpace, SubnetConfig, load_space

if TYPE_CHECKING:
    from nasvit_edge.model.subnet import Subnet

SCHEMA = 2
_KINDS: dict[type, str] = {dict: "object", list: "list"}  # as JSON calls them
_PACKAGES = (
    "nasvit-edge",
    "torch",
    "onnx",
    "onnxruntime",
    "litert-torch",
    "ai-edge-litert",
    "ai-edge-quantizer",
    "coremltools",
    "tensorrt-rtx",
    "numpy",
)


def describe(
    subnet: Subnet, form: Format, precision: str, batch: int | None, output: str = ""
) -> dict[str, str]:
    """What a program needs to use the model, and what the model is; every value is text (JSON where not plain).

    `batch` None stands for an open batch axis; `output` is what a segmenter gives.
    """
    source = subnet.source
    values = facts(subnet.space, subnet.config, form, output) | {
        "nasvit_edge_version": importlib.metadata.version("nasvit-edge"),
        "precision": precision,
        "batch": "dynamic" if batch is None else str(batch),
        "weights": _text(source),
        "calibration": _text(subnet.calibration or "none: batch norm not calibrated"),
    }
    if source.get("kind") == "random":
        values["warning"] = str(source["warning"])
    return values


def facts(space: SearchSpace, config: SubnetConfig, form: Format, output: str = "") -> dict[str, str]:
    """The metadata that follow from space, subnet, format and output, and are therefore checked against them."""
    values: dict[str, Any] = {
        "space": space.name,
        "config": config.to_dict(),
        "labels": space.label_names(),
        "preparation": space.preparation(config.resolution).to_dict(),
        "input_layout": form.layout,
        "resolution": config.resolution,
        "macs": macs(space, config),
    }
    if space.is_dense:
        values |= dense.facts(space, config, output)
    return {key: _text(value) for key, value in values.items()}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def versions() -> dict[str, str]:
    """The versions of everything that had a part in a file, and the processor it was checked on."""
    found = {"python": platform.python_version(), "cpu": cpu_model()}
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


def read_content(path: Path) -> Content:
    """The bytes of a model file, or of the files of a model folder."""
    return files.read_tree(path, "artifact") if path.is_dir() else files.read_bytes(path, "artifact")


def write_content(path: Path, content: Content) -> None:
    """Write a model whole or not at all."""
    if isinstance(content, dict):
        files.write_tree(path, content)
    else:
        files.write_bytes(path, content)


def digest(content: Content) -> str:
    """SHA-256 of a file; for a folder, of the lines `sha256  path` of its files in order."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    lines = [f"{hashlib.sha256(content[name]).hexdigest()}  {name}\n" for name in sorted(content)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def size_bytes(content: Content) -> int:
    """How large a model is."""
    return len(content) if isinstance(content, bytes) else sum(map(len, content.values()))


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
        return space.config_from(self._json("config", dict), f"config of {str(self.path)!r}")

    def weights(self) -> dict[str, Any]:
        """Where the weights are from."""
        return dict(self._json("weights", dict))

    def labels(self) -> list[str]:
        """The class names in the order of its outputs."""
        return list(map(str, self._json("labels", list)))

    def named(self, space: SearchSpace) -> SearchSpace:
        """The space with the class names that the file has, where they are others."""
        labels = self.labels()
        if len(labels) != space.classes:
            raise VerifyError(
                f"artifact {str(self.path)!r} has {len(labels)} classes, but space {space.name!r} has {space.classes}; give its "
                "own TOML with --space"
            )
        same = labels == space.label_names() or space.labels == IMAGENET
        return space if same else space.with_labels(labels)

    def output(self, space: SearchSpace) -> str:
        """What a segmenter gives, `labels` or `logits`; empty for a classifier."""
        if not space.is_dense:
            return ""
        output = self.metadata.get("output", "")
        if output not in dense.OUTPUTS:
            raise VerifyError(
                f"artifact {str(self.path)!r}: 'output' inside is {output[:60]!r}; export again"
            )
        return output

    def check_facts(self, space: SearchSpace, config: SubnetConfig) -> None:
        """VerifyError where labels, normalisation or anything else that a user relies on is not the space's."""
        if "preparation" not in self.metadata:
            raise VerifyError(
                f"artifact {str(self.path)!r} does not say how images are prepared for it: an older version wrote it; export again"
            )
        for key, value in facts(space, config, self.form, self.output(space)).items():
            if self.metadata.get(key) != value:
                raise VerifyError(
                    f"artifact {str(self.path)!r}: {key!r} inside is {str(self.metadata.get(key))[:60]!r}, "
                    f"but space {space.name!r} has {value[:60]!r}; export again"
                )

    def _json(self, key: str, kind: type) -> Any:
        try:
            value = json.loads(self.metadata[key])
        except (KeyError, ValueError, TypeError, RecursionError) as error:
            raise VerifyError(f"sidecar of {str(self.path)!r}: {key!r} is no JSON: {error}") from None
        if not isinstance(value, kind):
            raise VerifyError(f"sidecar of {str(self.path)!r}: {key!r} is no {_KINDS[kind]}")
        return value


def open_artifact(path: Path) -> Artifact:
    """Read sidecar and metadata and check that they belong to the file.

    Raises:
        VerifyError: the file was changed, cut short, or its metadata are not those of the sidecar.
    """
    form = format_of(path.suffix)
    content = read_content(path)
    sidecar = files.read_json(sidecar_path(path), "sidecar", SCHEMA)
    metadata = sidecar.get("metadata")
    if not isinstance(metadata, dict) or not {"space", "config", "weights"} <= set(metadata):
        raise VerifyError(f"sidecar of {str(path)!r} has no metadata; export again")
    if sidecar.get("bytes") != size_bytes(content) or sidecar.get("sha256") != digest(content):
        raise VerifyError(
            f"artifact {str(path)!r} is not the file that was exported (its hash differs); export again"
        )
    if form.module().read_metadata(path) != metadata:
        raise VerifyError(
            f"artifact {str(path)!r}: the metadata inside differ from its sidecar; export again"
        )
    precision = str(sidecar.get("precision"))
    if precision not in form.thresholds:
        raise VerifyError(f"sidecar of {str(path)!r}: unknown precision {precision!r}")
    return Artifact(path, form, precision, metadata, sidecar)
