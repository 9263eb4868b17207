"""Where shipped files are, and reading and writing that never leaves half a file."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import re
import shutil
import socket
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nasvit_edge.errors import NasvitEdgeError

LFS, PAGE = "a Git LFS pointer", "a web page"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_OPEN_S = 1.0
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP)  # file systems of some clusters: nothing can be told
_PACKAGE = Path(__file__).resolve().parent
_MARKS = (
    (b"\xff\xfe", "utf-16-le", "text in UTF-16, as PowerShell's > writes it"),
    (b"\xfe\xff", "utf-16-be", "text in UTF-16"),
    (b"\xef\xbb\xbf", "utf-8", "text that begins with a byte-order mark"),
)


def shipped(folder: str) -> Path:
    """`devices`, `export` or `latency_tables`: inside an installed package, or beside it in a checkout."""
    inside = _PACKAGE / "shipped" / folder
    return inside if inside.is_dir() else _PACKAGE.parent / folder


def data(*parts: str) -> Path:
    """A file of the package data."""
    return _PACKAGE.joinpath("data", *parts)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file or nothing: into a neighbour first, flushed, then renamed over `path`."""
    path = Path(path)
    partial = None
    try:
        if path.exists() and not path.is_file():
            raise OSError("it is not a regular file")  # renaming over /dev/null would replace it
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, partial = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        Path(partial).chmod(0o666 & ~_umask())
        _put(Path(partial), path)
        partial = None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        raise NasvitEdgeError(f"cannot write {str(path)!r}: {_reason(error)}") from None
    finally:
        if partial is not None:
            Path(partial).unlink(missing_ok=True)


def write_tree(path: Path, tree: Mapping[str, bytes]) -> None:
    """Write a whole folder or nothing: a neighbour is filled first, then takes the place of `path`."""
    path = Path(path)
    partial = old = None
    try:
        if path.exists() and not path.is_dir():
            raise OSError("it is not a folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        for name, content in tree.items():
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            (partial / name).write_bytes(content)
        partial.chmod(0o777 & ~_umask())
        if path.exists():
            old = partial.with_name(f"{partial.name}.old")
            path.rename(old)
        partial.rename(path)
        partial = None
    except (OSError, ValueError) as error:
        if old is not None and not path.exists():
            old.rename(path)
        raise NasvitEdgeError(f"cannot write {str(path)!r}: {_reason(error)}") from None
    finally:
        for left in (partial, old):
            if left is not None:
                shutil.rmtree(left, ignore_errors=True)


def read_tree(path: Path, what: str) -> dict[str, bytes]:
    """The files of a folder by relative path; a link that leads out of it is an error."""
    paths = sorted(p for p in Path(path).rglob("*") if p.is_file())
    if not paths:
        raise NasvitEdgeError(f"{what} {str(path)!r}: no such folder, or it is empty")
    root = Path(path).resolve()
    for link in (p for p in paths if p.is_symlink() and not p.resolve().is_relative_to(root)):
        raise NasvitEdgeError(
            f"{what} {str(path)!r}: {link.name!r} is a link out of the folder; put the file itself there"
        )
    return {p.relative_to(path).as_posix(): read_bytes(p, what) for p in paths}


def write_text(path: Path, text: str) -> None:
    """`write_bytes` in UTF-8; what of a file's name is no text, as `\\udcff`."""
    write_bytes(path, text.encode(errors="backslashreplace"))


def write_json(path: Path, value: Any) -> None:
    """Sorted, indented, atomic; NaN and infinities are refused, as JSON has none."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")


def writable_folder(path: Path) -> Path:
    """Make `path` a folder that can be written to, or say why not, before work is spent."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return path
    except (OSError, ValueError) as error:
        raise NasvitEdgeError(
            f"cannot write to folder {str(path)!r}: {_reason(error)}; choose another with --out"
        ) from None


def read_bytes(path: Path, what: str) -> bytes:
    """The content of a file that a user named."""
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        raise NasvitEdgeError(f"{what} {str(path)!r}: {_reason(error)}") from None


def read_json(path: Path, what: str, schema: int | None = None) -> dict[str, Any]:
    """A JSON object with the expected `schema` number (where one is given)."""
    text = _read_text(path, what)
    try:
        value = loads(text)
    except (ValueError, RecursionError) as error:
        raise NasvitEdgeError(f"{what} {str(path)!r} is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise NasvitEdgeError(f"{what} {str(path)!r} holds no JSON object")
    if schema is not None and value.get("schema") != schema:
        raise NasvitEdgeError(
            f"{what} {str(path)!r} has schema {value.get('schema')!r}; this version reads schema {schema}"
        )
    return value


def loads(text: str | bytes) -> Any:
    """Strict JSON: no NaN, no infinity; ValueError or RecursionError for what is none."""
    return json.loads(text, parse_constant=_no_constant, parse_float=_finite)


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """A TOML file that a person wrote."""
    text = _read_text(path, what)
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise NasvitEdgeError(f"{what} {str(path)!r} is not valid TOML: {error}") from None


def number(value: Any, what: str) -> float:
    """A finite number of a JSON file that is not negative; ValueError or OverflowError otherwise."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise ValueError(f"{what!r} is {value!r}")
    return float(value)


def file_and_key(text: str | Path) -> tuple[str, str | None]:
    """`FILE::KEY`, which names a part of a file -> FILE and KEY; None for the whole of it."""
    file, mark, key = str(text).rpartition("::")
    whole = not mark or not file
    with contextlib.suppress(OSError):  # too long to be a file's name
        whole = whole or Path(text).exists()
    return (str(text), None) if whole else (file, key)


def is_name(text: object) -> bool:
    """Whether something read from a file can be a name: no path, no option, no address, no command."""
    return isinstance(text, str) and _NAME.fullmatch(text) is not None


def text_kind(head: bytes) -> str | None:
    """What the first bytes of a file show, where that is a text that stands for something else."""
    encoding, named = next(((e, n) for mark, e, n in _MARKS if head.startswith(mark)), ("utf-8", ""))
    text = head.decode(encoding, errors="ignore").lstrip("\ufeff \t\r\n")
    if text.startswith("version https://git-lfs"):
        return LFS
    if re.match(r"<(!doctype|!--|html|head|\?xml)", text, re.IGNORECASE):
        return PAGE
    return named or None


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    return hashlib.sha256(read_bytes(path, "file")).hexdigest()


@contextlib.contextmanager
def patience(seconds: float = 60.0) -> Iterator[None]:
    """Connections that a library opens inside without a time-out give up after so long without a byte."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


@contextlib.contextmanager
def locked(path: Path, busy: NasvitEdgeError, wait_s: float = 0.0) -> Iterator[None]:
    """Hold `path` as a lock; raises `busy` where another process holds it, and goes on holding it for `wait_s`.

    The file stays: where it was removed, somebody who has it open already and somebody who makes it anew would both hold it.
    """
    from filelock import FileLock, Timeout  # as long to load as all else that `--help` needs

    lock = FileLock(path, thread_local=False)
    try:
        lock.acquire(timeout=wait_s)
    except Timeout:
        raise busy from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise NasvitEdgeError(f"cannot write {str(path)!r}: {error.strerror}") from None
    try:
        yield
    finally:
        lock.release()


def _read_text(path: Path, what: str) -> str:
    """A text in UTF-8, with or without a byte-order mark."""
    content = read_bytes(path, what)
    kind = text_kind(content[:512])
    if kind in (LFS, PAGE):
        then = "run `git lfs pull` where it was cloned" if kind == LFS else "the download failed"
        raise NasvitEdgeError(f"{what} {str(path)!r}: this is {kind}, not the file itself; {then}")
    try:
        return content.decode("utf-8-sig")
    except ValueError as error:
        advice = f"this is {kind}; save it in UTF-8" if kind else f"this is no text in UTF-8 ({error})"
        raise NasvitEdgeError(f"{what} {str(path)!r}: {advice}") from None


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits} is too large")
    return value


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _put(partial: Path, path: Path) -> None:
    """Rename over `path`; Windows refuses while anybody has it open, as whoever looks for viruses does for a moment."""
    until = time.monotonic() + (_OPEN_S if sys.platform == "win32" else 0.0)
    while True:
        try:
            partial.replace(path)
            return
        except PermissionError:
            if time.monotonic() >= until:
                raise
        time.sleep(_OPEN_S / 20)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
