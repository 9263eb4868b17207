"""What `nasvit-edge cache` is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to do with what is kept."""

    action: Annotated[str, typer.Argument(help="show or clear.")] = "show"
