"""Exports made before: the second call copies what the first one made and checked."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from msgspec.structs import replace

from nasvit_edge import cache, digests, files, records
from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.export import artifact, dense
from nasvit_edge.export.formats import Content, Format
from nasvit_edge.export.sidecar import Searched, Sidecar, read_sidecar, sidecar_path
from nasvit_edge.export.writing import Options
from nasvit_edge.space import SearchSpace, SubnetConfig

_MODEL, _SIDECAR, _REFERENCE = "model", "sidecar.json", "reference.safetensors"


def export_key(
    space: SearchSpace,
    supernet: str,
    config: SubnetConfig,
    images: str | None,
    form: Format,
    options: Options,
) -> str:
    """A hash of everything that an export depends on: weights, space, subnet, data, options, versions, our code."""
    parts = {
        "space": repr(space),
        "config": config.to_dict(),
        "data": images,
        "format": records.content(form),
        "options": [options.precision, options.batch, options.uncalibrated, *sorted(options.mixed.items())],
        "output": dense.output_of(space, options.output),
        "searched": None
        if options.search is None
        else options.search.accuracy,  # stands in the file's metadata
        "versions": artifact.versions(),
    }
    return digests.key_of(supernet, parts)


def restore(key: str, path: Path, search: Searched | None) -> bool:
    """Copy a kept export to `path`; False where there is none, or it is damaged."""
    folder = cache.root() / "exports" / key
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
        files.write_tree(cache.root() / "exports" / key, model | rest)
    except NasvitEdgeError:
        return
