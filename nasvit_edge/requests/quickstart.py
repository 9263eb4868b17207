"""What `nasvit-edge quickstart` is asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from nasvit_edge.requests import options


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Where everything goes, and the budget; None: one that suits this machine."""

    out: Annotated[Path, typer.Option(help="The folder for everything that is made.")] = Path(
        "nasvit-edge-quickstart"
    )
    latency: Annotated[str | None, typer.Option(help="A budget of your own, like 300us.")] = None
    seed: options.Seed = 0
