"""What this user wrote here, told from what came from elsewhere: a seal by a key that is in the user's settings alone.

Result files hold paths that were typed for a search. They are followed again only where the seal shows that they are
still the same; a file of somebody else, or a changed one, names no path.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import secrets
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_BYTES = 32


def seal(values: Mapping[str, Any]) -> str:
    """A seal of plain values; empty where the key cannot be kept, which is no error: nothing is known again then."""
    key = _key() or _made()
    return _of(key, values) if key else ""


def is_own(values: Mapping[str, Any], code: object) -> bool:
    """Whether a seal was made here for just these values."""
    key = _key()
    return key is not None and isinstance(code, str) and hmac.compare_digest(_of(key, values), _ascii(code))


def key_path() -> Path:
    """Where the key is: beside the user's own devices."""
    from platformdirs import user_config_path

    return user_config_path("nasvit-edge") / "seal.key"


def _of(key: bytes, values: Mapping[str, Any]) -> str:
    return hmac.new(key, json.dumps(dict(values), sort_keys=True).encode(), hashlib.sha256).hexdigest()


def _ascii(text: str) -> str:
    return text if text.isascii() else ""


def _key() -> bytes | None:
    """The key; None where there is none, or a damaged one."""
    try:
        key = key_path().read_bytes()
    except OSError:
        return None
    return key if len(key) == _BYTES else None


def _made() -> bytes | None:
    """A new key, for this user's eyes alone; of two processes that make one at once both take the first."""
    path, partial = key_path(), ""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, partial = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(secrets.token_bytes(_BYTES))
        os.link(partial, path)
    with contextlib.suppress(OSError):
        Path(partial).unlink()
    return _key()
