"""A deployment bundle: a model with its labels, its sidecar and the programs that use it, in one folder."""

from __future__ import annotations

import json
from pathlib import Path

from nasvit_edge import files
from nasvit_edge.errors import ExportError
from nasvit_edge.export import artifact
from nasvit_edge.export.artifact import open_artifact
from nasvit_edge.export.programs import programs
from nasvit_edge.export.sidecar import sidecar_path


def bundle_path(path: Path, form_name: str) -> Path:
    """`out/nano.onnx` -> `out/nano-onnx-bundle`."""
    return path.with_name(f"{path.stem}-{form_name}-bundle")


def checked_bundle(path: Path, form_name: str, *, overwrite: bool) -> Path:
    """Refuse early a bundle that is there already."""
    folder = bundle_path(path, form_name)
    if folder.exists() and not overwrite:
        raise ExportError(f"{str(folder)!r} exists; choose another --out or add --overwrite")
    return folder


def write_bundle(path: Path) -> Path:
    """Write the bundle of an exported model beside it, whole or not at all."""
    exported = open_artifact(path)
    content = artifact.read_content(path)
    model = {path.name: content} if isinstance(content, bytes) else _inside(path.name, content)
    labels = "".join(f"{label}\n" for label in json.loads(exported.metadata["labels"]))
    inside = set() if isinstance(content, bytes) else set(content)  # a TensorRT folder holds its programs
    segments = exported.metadata.get("task") == "segmentation"
    beside = {
        name: data
        for name, data in programs(exported.form.name, segments=segments).items()
        if name not in inside
    }
    about = {
        sidecar_path(path).name: files.read_bytes(sidecar_path(path), "sidecar"),
        artifact.reference_path(path).name: files.read_bytes(artifact.reference_path(path), "reference"),
        "labels.txt": labels.encode(),
    }
    folder = bundle_path(path, exported.form.name)
    files.write_tree(folder, model | beside | about)
    return folder


def _inside(name: str, tree: dict[str, bytes]) -> dict[str, bytes]:
    return {f"{name}/{inner}": data for inner, data in tree.items()}
