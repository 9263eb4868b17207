"""`nasvit-edge profile`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nasvit_edge.cli import options
from nasvit_edge.cli.output import note, print_json, print_table, progress


def profile(
    device: options.Device = "host",
    runtime: options.Runtime = "onnxruntime",
    space: options.Space = "nasvit",
    threads: options.Threads = 1,
    precision: options.Precision = "fp32",
    protocol: Annotated[str, typer.Option(help="quick, default or thorough.")] = "default",
    seed: options.Seed = 0,
    out: Annotated[Path, typer.Option(help="The folder of the table.")] = Path("latency_tables"),
    as_json: options.Json = False,
) -> None:
    """Example:  nasvit-edge profile --device host --runtime onnxruntime --space nano

    Time every op of a space on a device and write a latency table. Interrupted, the same command
    continues where it was.
    """
    from nasvit_edge.latency import load_table
    from nasvit_edge.profile.run import profile as measure
    from nasvit_edge.space import load_space
    from nasvit_edge.units import show_ms

    with progress("profiling") as show:
        path = measure(
            load_space(space),
            device,
            runtime=runtime,
            threads=threads,
            precision=precision,
            protocol=protocol,
            out=out,
            seed=seed,
            on_progress=show,
        )
    table = load_table(str(path), space=space)
    if as_json:
        print_json({"table": str(path), "ops": len(table.ops_ms), "composition": table.raw["composition"]})
        return
    ends = [table.predict(c) for c in (table.space.smallest(), table.space.largest())]
    rows = [
        [name, show_ms(p.ms), f"{show_ms(p.low_ms)} .. {show_ms(p.high_ms)}"]
        for name, p in zip(("smallest", "largest"), ends, strict=True)
    ]
    print_table(
        ["subnet", "predicted", "90 % interval"],
        rows,
        f"{len(table.ops_ms)} ops on {device}, {runtime}, {threads} thread(s)",
    )
    note(f"wrote {path}")
