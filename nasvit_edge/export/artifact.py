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

from nasvit_edge import files, systems
from nasvit_edge.data_sets.labels import IMAGENET
from nasvit_edge.data_sets.trained_on import TrainedOn
from nasvit_edge.device import cpu_features, cpu_model
from nasvit_edge.errors import DataError, NasvitEdgeError, VerifyError
from nasvit_edge.export import dense
from nasvit_edge.export.formats import Content, Format, format_names, format_of, load_format
from nasvit_edge.export.sidecar import Sidecar, read_sidecar, sidecar_path
from nasvit_edge.latency.names import MIXED
from nasvit_edge.ops import macs
from nasvit_edge.space import SearchSpace, SubnetConfig, known_space, load_space, read_space, space_toml

if TYPE_CHECKING:
    from nasvit_edge.model.subnet import Subnet

MANIFEST = "Manifest.json"  # of a Core ML package
_KINDS: dict[type, str] = {dict: "object", list: "list"}  # as JSON calls them


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
        "space_toml": space_toml(subnet.space),
    }
    if source.get("kind") == "random":
        values["warning"] = str(source["warning"])
    return values


def facts(space: SearchSpace, config: SubnetConfig, form: Format, output: str = "") -> dict[str, str]:
    """The metadata that follow from space, subnet, format and output, and are therefore checked against them."""
    values: dict[str, object] = {
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
    about = {"python": platform.python_version(), "cpu": cpu_model(), "cpu_features": cpu_features()}
    ours = [p.distribution for name in format_names() for p in load_format(name).packages.values()]
    for package in ("nasvit-edge", "torch", "numpy", *ours):
        try:
            about[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return about


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
    """SHA-256 of a file; for a folder, of the lines `sha256  path` of its files in order, a manifest as `_same_json`."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    files_ = _same_json(content)
    lines = [f"{hashlib.sha256(files_[name]).hexdigest()}  {name}\n" for name in sorted(files_)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def size_bytes(content: Content) -> int:
    """How large a model is; of a folder with its manifest as `_same_json`."""
    return len(content) if isinstance(content, bytes) else sum(map(len, _same_json(content).values()))


def _same_json(content: dict[str, bytes]) -> dict[str, bytes]:
    """The files with a package's manifest as we write it: coremltools writes it anew, in other order, when it opens one."""
    try:
        manifest = json.loads(content[MANIFEST], object_pairs_hook=_unambiguous)
    except (KeyError, ValueError, RecursionError):
        return content
    return content | {MANIFEST: json.dumps(manifest, indent=4, sort_keys=True).encode()}


def _unambiguous(pairs: list[tuple[str, Any]]) -> dict[str, object]:
    """The pairs as a dict; ValueError where a key comes twice, which readers take in different ways."""
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a key comes twice")
    return values


@dataclass(frozen=True, slots=True)
class Artifact:
    """An artifact with its metadata, and its sidecar, by which its hash was checked; None where it was not there."""

    path: Path
    form: Format
    precision: str
    metadata: dict[str, str]
    sidecar: Sidecar | None

    @property
    def checked(self) -> bool:
        """Whether the file is the one that its sidecar describes."""
        return self.sidecar is not None

    def space(self, override: str | None = None) -> SearchSpace:
        """The search space it is from, which it holds; of an older file the shipped one of its name, or the `override`.

        Raises:
            VerifyError: an override that is another space than the file's own, or an older file of a space that is not shipped.
        """
        embedded = self._own_space()
        if override is None and embedded is not None:
            return embedded
        try:
            space = load_space(override) if override else known_space(self.metadata["space"])
        except NasvitEdgeError as error:
            raise VerifyError(f"artifact {str(self.path)!r}: {error}; give its TOML with --space") from None
        if embedded is not None and space != embedded:
            raise VerifyError(
                f"artifact {str(self.path)!r} holds its own space, {embedded.name!r} ({embedded.digest()}), which is not --space {override} "
                f"({space.digest()}): leave that out"
            )
        return space

    def _own_space(self) -> SearchSpace | None:
        if "space_toml" not in self.metadata:
            return None
        return read_space(self.metadata["space_toml"], f"inside {self.path}")

    def config(self, space: SearchSpace) -> SubnetConfig:
        """The subnet."""
        return space.config_from(self._json("config", dict), f"config of {str(self.path)!r}")

    def weights(self) -> dict[str, object]:
        """Where the weights are from."""
        return dict(self._json("weights", dict))

    def trained_on(self) -> TrainedOn | None:
        """The images that trained its weights: as its sidecar says, of shipped weights as they do; None where that is not known."""
        from nasvit_edge.model.checkpoint import shipped_trained_on

        record = None if self.sidecar is None else self.sidecar.trained_on
        if record is not None:
            try:
                return record.opened(f"sidecar of {str(self.path)!r}")
            except DataError as error:
                raise VerifyError(f"{error}; export again") from None
        source = self.weights()
        return (
            TrainedOn() if source.get("kind") == "random" else shipped_trained_on(str(source.get("sha256")))
        )

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


def open_artifact(path: Path, *, bare: bool = False) -> Artifact:
    """Read sidecar and metadata and check that they belong to the file.

    `bare`: where there is no sidecar, take what the file says of itself; it is then `checked` by nothing.

    Raises:
        VerifyError: the file was changed, cut short, or its metadata are not those of the sidecar.
        NasvitEdgeError: the sidecar is missing.
    """
    form = format_of(path.suffix)
    systems.require_format(form.name)
    content = read_content(path)
    side, sidecar = sidecar_path(path), None
    if bare and not side.exists():
        metadata = form.module().read_metadata(path)
        _check_metadata(metadata, f"artifact {str(path)!r}")
        precision = metadata.get("precision", "")
    else:
        beside(side, "sidecar", "the file's hash, the versions that wrote it and the outcome of its check")
        sidecar = read_sidecar(path)
        metadata, precision = _checked(sidecar, path, content, form), sidecar.precision
    if precision not in form.thresholds and not (precision == MIXED and form.mixed):
        raise VerifyError(f"{'sidecar of ' if sidecar else ''}{str(path)!r}: unknown precision {precision!r}")
    return Artifact(path, form, precision, metadata, sidecar)


def _checked(sidecar: Sidecar, path: Path, content: Content, form: Format) -> dict[str, str]:
    """The metadata, of a file that is the sidecar's."""
    _check_metadata(sidecar.metadata, f"sidecar of {str(path)!r}")
    if sidecar.bytes != size_bytes(content) or sidecar.sha256 != digest(content):
        raise VerifyError(
            f"artifact {str(path)!r} is not the file that was exported (its hash differs); export again"
        )
    metadata: dict[str, str] = form.module().read_metadata(path)
    if metadata != sidecar.metadata:
        raise VerifyError(
            f"artifact {str(path)!r}: the metadata inside differ from its sidecar; export again"
        )
    return metadata


def _check_metadata(metadata: Any, what: str) -> None:
    if not isinstance(metadata, dict) or not {"space", "config", "weights"} <= set(metadata):
        raise VerifyError(f"{what} has no metadata of nasvit-edge; export again")


def beside(path: Path, kind: str, holds: str) -> None:
    """NasvitEdgeError where a file that belongs beside an artifact is missing: what it is, and how to get it."""
    if not path.exists():
        raise NasvitEdgeError(
            f"{kind} {str(path)!r} is missing: it holds {holds}, and is written beside the model (and into its bundle) "
            "when it is exported. Copy it from there, or export again; `evaluate` and `doctor` do without it"
        )
