"""What `nasvit-edge explain` is asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A result, and what stands for the paths in it where it is from elsewhere: these are not followed then."""

    result: Annotated[Path, typer.Argument(help="A result file of `nasvit-edge search`.")]
    table: Annotated[
        Path | None, typer.Option(help="The latency table, where it is not found by its name.")
    ] = None
    accuracy: Annotated[
        str | None,
        typer.Option(help="The predictor, where the result is from elsewhere and names its file."),
    ] = None
    supernet: Annotated[str | None, typer.Option(help="The weights, as --accuracy.")] = None
    data: Annotated[str | None, typer.Option(help="The images, as --accuracy.")] = None
