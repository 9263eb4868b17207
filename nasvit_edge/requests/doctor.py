"""What `nasvit-edge doctor` is asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A model to look at; None: the environment."""

    artifact: Annotated[
        Path | None, typer.Argument(help="An exported model; without one, the environment.")
    ] = None
