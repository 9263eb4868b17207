"""The programs that ship with a model: those in the folder of its format, and the file that prepares their images."""

from __future__ import annotations

from pathlib import Path

from nasvit_edge import data_sets, files

PREPARE = "prepare_image.py"
_SUFFIXES = {".py", ".swift", ".kt", ".js", ".html", ".md"}
_OTHERS = {True: {"classify", ".js", ".html"}, False: {"segment"}}  # no use to a segmenter, to a classifier


def programs(form: str, *, segments: bool) -> dict[str, bytes]:
    """File name -> content of what a classifier or a segmenter of a format comes with, README.md included."""
    paths = sorted((files.shipped("export") / form).iterdir())
    names = [
        path.name
        for path in paths
        if path.suffix in _SUFFIXES and not {path.stem.lower(), path.suffix} & _OTHERS[segments]
    ]
    in_python = [PREPARE] if any(name.endswith(".py") for name in names) else []
    return {name: shipped(name, form) for name in (*names, *in_python)}


def shipped(name: str, form: str) -> bytes:
    """The content of a program. `prepare_image.py` is our own module: read, not imported, as it needs Pillow."""
    folder = Path(data_sets.__file__).parent if name == PREPARE else files.shipped("export") / form
    return files.read_bytes(folder / name, "program")
