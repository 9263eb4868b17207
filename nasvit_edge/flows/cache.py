"""Exports made before, kept by content: the second call copies what the first one made and checked."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from nasvit_edge import files, records
from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.export import artifact, dense
from nasvit_edge.export.formats import Content, Format
from nasvit_edge.export.sidecar import Searched, Sidecar, read_sidecar, sidecar_path
from nasvit_edge.export.writing import Options
from nasvit_edge.space import SearchSpace, SubnetConfig

if TYPE_CHECKING:
    from nasvit_edge.searching.images import ImageAccuracy
    from nasvit_edge.train.calibration import Calibration

_ROOMS = ("data_sets", "model", "export", "train")  # whose code decides what is kept here
_MODEL, _SIDECAR, _REFERENCE = "model", "sidecar.json", "reference.safetensors"


def root() -> Path:
    """The user's cache folder."""
    from platformdirs import user_cache_path

    return user_cache_path("nasvit-edge")


def export_key(
    space: SearchSpace,
    supernet: str,
    config: SubnetConfig,
    calibration: Calibration | None,
    form: Format,
    options: Options,
) -> str:
    """A hash of everything that an export depends on: weights, space, subnet, data, options, versions, our code."""
    parts = {
        "weights": _weights(supernet),
        "space": repr(space),
        "config": config.to_dict(),
        "data": None if calibration is None else calibration.key(),
        "format": records.content(form),
        "options": [options.precision, options.batch, options.uncalibrated],
        "output": dense.output_of(space, options.output),
        "searched": None
        if options.search is None
        else options.search.accuracy,  # stands in the file's metadata
        "versions": artifact.versions(),
        "code": _code(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:32]


def restore(key: str, path: Path, search: Searched | None) -> bool:
    """Copy a kept export to `path`; False where there is none, or it is damaged."""
    folder = root() / "exports" / key
    try:
        tree = files.read_tree(folder, "cache")
        sidecar = records.parse(Sidecar, json.loads(tree.pop(_SIDECAR)), "cache")
        reference = tree.pop(_REFERENCE)
        content: Content = {name.removeprefix(f"{_MODEL}/"): data for name, data in tree.items()}
        if set(tree) == {_MODEL}:
            content = tree[_MODEL]
        whole = artifact.digest(content) == sidecar.sha256
        if not whole or hashlib.sha256(reference).hexdigest() != sidecar.reference_sha256:
            return False
    except (NasvitEdgeError, KeyError, ValueError, TypeError):
        return False
    files.write_bytes(artifact.reference_path(path), reference)
    artifact.write_content(path, content)
    records.write(sidecar_path(path), replace(sidecar, search=search))
    return True


def keep(key: str, path: Path) -> None:
    """Keep an export; a cache that cannot be written to is no error."""
    content = artifact.read_content(path)
    model = (
        {_MODEL: content} if isinstance(content, bytes) else {f"{_MODEL}/{n}": c for n, c in content.items()}
    )
    sidecar = replace(read_sidecar(path), search=None)  # which is of this call, not of the file
    rest = {
        _SIDECAR: json.dumps(records.content(sidecar)).encode(),
        _REFERENCE: files.read_bytes(artifact.reference_path(path), "reference"),
    }
    try:
        files.write_tree(root() / "exports" / key, model | rest)
    except NasvitEdgeError:
        return


def accuracy_store(space: SearchSpace, supernet: str, source: ImageAccuracy) -> Path:
    """The file that keeps accuracies measured with these weights, images and code."""
    parts = {
        "space": repr(space),
        "weights": _weights(supernet),
        "calibration": source.calibration.key(),
        "images": source.validation.digest(),
        "code": _code(),
    }
    key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]
    return root() / "accuracy" / f"{space.name}-{key}.jsonl"


def contents() -> list[dict[str, Any]]:
    """What is kept: folder, entries, bytes."""
    found = []
    for folder in sorted(p for p in root().glob("*") if p.is_dir()):
        sizes = [p.stat().st_size for p in folder.rglob("*") if p.is_file()]
        found.append({"folder": str(folder), "entries": len(list(folder.iterdir())), "bytes": sum(sizes)})
    return found


def clear() -> int:
    """Delete everything kept; the number of bytes freed."""
    import shutil

    freed = sum(entry["bytes"] for entry in contents())
    shutil.rmtree(root(), ignore_errors=True)
    return int(freed)


def _weights(supernet: str) -> list[str | None]:
    """Of a file its hash, and which weights of it are meant; of shipped weights and generic ones their name, the
    former's content is in `_code`."""
    path, key = files.file_and_key(supernet)
    return [files.sha256(Path(path)) if Path(path).is_file() else path, key]


def _code() -> str:
    """Of our own sources: a changed lowering must not be served from the cache."""
    package = Path(__file__).resolve().parent.parent
    sources = sorted(p for room in _ROOMS for p in (package / room).glob("*.py"))
    sources += [
        *sorted((package / "data" / "weights").glob("*")),
        package / "ops.py",
        package / "preparation.py",
    ]
    sources += sorted((package / "data" / "recipes").glob("*.toml"))
    return hashlib.sha256("".join(files.sha256(p) for p in sources).encode()).hexdigest()
