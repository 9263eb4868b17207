"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Space = Annotated[str, typer.Option(help="Search space: nasvit, alphanet, nano, or a path to a TOML file.")]
Device = Annotated[
    str,
    typer.Option(envvar="NASVIT_EDGE_DEVICE", help="The device; host:litert:2t:int8 names a table in full."),
]
Threads = Annotated[int, typer.Option(min=1, max=256, help="Threads of the runtime.")]
Precision = Annotated[
    str, typer.Option(help="Numbers of the model: fp32, fp16, int8 or w8 (8-bit weights only).")
]
TableRuntime = Annotated[
    str, typer.Option("--runtime", show_default="the device's first", help="onnxruntime, litert, ...")
]
TableThreads = Annotated[
    int, typer.Option("--threads", show_default="the device's", min=0, max=256, help="Of the runtime.")
]
TablePrecision = Annotated[
    str, typer.Option("--precision", show_default="the device's", help="fp32, fp16, int8 or w8.")
]
Interpolate = Annotated[
    bool, typer.Option("--interpolate", help="Estimate ops that the table does not have, and say so.")
]
Seed = Annotated[int, typer.Option(min=0, help="Same seed and table, same subnet.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout instead of a table.")]
Supernet = Annotated[
    str | None,
    typer.Option(help="Weights: a checkpoint file, the name of shipped weights (nano), or random[:SEED]."),
]
Out = Annotated[Path, typer.Option(help="Where to write.")]


def help_example(example: str, text: str) -> str:
    """Help that starts with a worked example."""
    return f"{example}\n\n{text}"
