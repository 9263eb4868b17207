"""What `nasvit-edge predict` is asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from nasvit_edge.requests import options


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A subnet, and the latency table that is to answer."""

    subnet: Annotated[
        Path, typer.Argument(help="A result file of `search`, or the JSON of config.to_dict().")
    ]
    device: options.TableDevice = None
    space: options.SpaceOfTable = None
    table: options.TableChoice = field(default_factory=options.TableChoice)
