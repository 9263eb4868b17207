"""onnxruntime-web's files: from the cache, npm or the npm registry; never part of the package."""

from __future__ import annotations

import base64
import hashlib
import io
import shutil
import subprocess
import tarfile
import tempfile
import urllib.request
from pathlib import Path

from nasvit_edge import cache, files
from nasvit_edge.errors import DeviceError
from nasvit_edge.listening import SILENT, Listener

VERSION = "1.30.0"
INTEGRITY = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
URL = f"https://registry.npmjs.org/onnxruntime-web/-/onnxruntime-web-{VERSION}.tgz"
FILES = {
    "ort.wasm.min.js": "faece07e84faa9001f5104bbe4e5c70861d06cb2376a0dea1fa0ad33a67adc81",
    "ort.webgpu.min.js": "7d65dad7eb4564ad98db9924a259af2e2c68ebfbdbf254fa5d728f1c5736e07a",
    "ort-wasm-simd-threaded.mjs": "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b",
    "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
    "ort-wasm-simd-threaded.asyncify.mjs": "3d1c85995364bb643302fc6fd877a0c3ba5ae72401815e0f24828a53d9191e28",
    "ort-wasm-simd-threaded.asyncify.wasm": "39f9f0894d478800487ed9f7dbe92618498db320cf55c8e3d89adff8dce658da",
}
_LARGEST = 64_000_000
_SECONDS = 600


def web_runtime(folder: str | None, listener: Listener = SILENT) -> dict[str, Path]:
    """The files by name: of `folder`, or of the cache, which is filled where it has to be (33 MB, once).

    Raises:
        DeviceError: a folder without them; no network; a download that is not what it should be.
    """
    if folder is not None:
        return _given(Path(folder))
    place = kept_folder()
    if not is_kept():
        listener.note(f"fetching onnxruntime-web {VERSION} (33 MB, once) to {place}")
        files.write_tree(place, unpacked(_fetched()))
    return {name: place / name for name in FILES}


def kept_folder() -> Path:
    """Where the files are kept."""
    return cache.root() / "onnxruntime-web" / VERSION


def is_kept() -> bool:
    """Whether the cache holds every file, whole."""
    folder = kept_folder()
    return all(
        (folder / name).is_file() and files.sha256(folder / name) == digest for name, digest in FILES.items()
    )


def unpacked(package: bytes) -> dict[str, bytes]:
    """The files of a package as npm serves it, checked against the hashes; DeviceError where it is another."""
    if base64.b64encode(hashlib.sha512(package).digest()).decode() != INTEGRITY:
        raise DeviceError(
            f"what was fetched is not onnxruntime-web {VERSION} (its SHA-512 differs)",
            "try again, or give --web-runtime FOLDER",
        )
    with tarfile.open(fileobj=io.BytesIO(package), mode="r:gz") as archive:
        streams = {name: archive.extractfile(f"package/dist/{name}") for name in FILES}
        return {name: stream.read() for name, stream in streams.items() if stream is not None}


def _given(folder: Path) -> dict[str, Path]:
    """A user's files, of whichever version: a package or its folder `dist`."""
    for place in (folder, folder / "dist", folder / "package" / "dist"):
        paths = {name: place / name for name in FILES if (place / name).is_file()}
        if {"ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"} <= set(paths):
            return paths
    raise DeviceError(
        f"folder {str(folder)!r} does not hold onnxruntime-web (ort.wasm.min.js and the files beside it)",
        f"run: npm pack onnxruntime-web@{VERSION}, and unpack it there",
    )


def _fetched() -> bytes:
    """The package by npm, which knows the user's registry and proxies; without npm by HTTPS."""
    npm = shutil.which("npm")
    package = _by_npm(npm) if npm else None
    if package is not None:
        return package
    try:
        with urllib.request.urlopen(URL, timeout=30) as answer:
            return answer.read(_LARGEST)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise DeviceError(
            f"onnxruntime-web {VERSION} cannot be fetched from {URL} ({reason})",
            "where there is a network, run "
            f"npm pack onnxruntime-web@{VERSION}, unpack it and give its folder with --web-runtime",
        ) from None


def _by_npm(npm: str) -> bytes | None:
    with tempfile.TemporaryDirectory(prefix="nasvit-edge-") as folder:
        command = [
            npm,
            "pack",
            "--ignore-scripts",
            f"onnxruntime-web@{VERSION}",
            "--pack-destination",
            folder,
        ]
        try:
            subprocess.run(command, cwd=folder, capture_output=True, timeout=_SECONDS, check=True)
            return next(Path(folder).glob("*.tgz")).read_bytes()
        except (OSError, subprocess.SubprocessError, StopIteration):
            return None
