"""What `nasvit-edge verify` is asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from nasvit_edge.requests import options


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """An artifact, and the weights and space that it is of, where these are not shipped."""

    artifact: Annotated[Path, typer.Argument(help="An exported model file, with its sidecar beside it.")]
    supernet: options.Supernet = None
    space: Annotated[str | None, typer.Option(help="The TOML of a space of your own.")] = None
    data: Annotated[
        str | None, typer.Option(help="Labelled scenes, to compare the mean IoU of a segmenter besides.")
    ] = None
