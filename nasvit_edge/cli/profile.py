"""`nasvit-edge profile`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nasvit_edge.cli import options
from nasvit_edge.cli.output import note, print_json, print_table, progress
from nasvit_edge.cli.tables import show_validation

if TYPE_CHECKING:
    from nasvit_edge.latency import LatencyTable


def profile(
    device: options.Device = "host",
    runtime: options.Runtime = "onnxruntime",
    space: options.Space = "nasvit",
    threads: options.Threads = 1,
    precision: options.Precision = "fp32",
    protocol: Annotated[str, typer.Option(help="quick, default or thorough.")] = "default",
    sample: Annotated[
        str | None, typer.Option(help="Measure a part (20%) and estimate the rest, until --sample-error.")
    ] = None,
    sample_error: Annotated[str, typer.Option(help="The error of estimates to reach.")] = "5%",
    validate: Annotated[
        int | None, typer.Option(min=4, max=10_000, help="Then measure whole subnets against predictions.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Call the device this in the table, to pass it on.")
    ] = None,
    seed: options.Seed = 0,
    out: Annotated[Path, typer.Option(help="The folder of the table.")] = Path("latency_tables"),
    as_json: options.Json = False,
) -> None:
    """Example:  nasvit-edge profile --device host --runtime onnxruntime --space nano

    Time every op of a space on a device and write a latency table. Interrupted, the same command
    continues where it was.
    """
    from nasvit_edge.latency import load_table
    from nasvit_edge.profile.run import Sample
    from nasvit_edge.profile.run import profile as measure
    from nasvit_edge.space import load_space
    from nasvit_edge.units import share, show_ms

    wanted = None if sample is None else Sample(share=share(sample), error=share(sample_error))
    with progress("profiling") as show:
        path = measure(
            load_space(space),
            device,
            runtime=runtime,
            threads=threads,
            precision=precision,
            protocol=protocol,
            out=out,
            name=name,
            seed=seed,
            sample=wanted,
            on_progress=show,
            note=note,
        )
    table = load_table(str(path), space=space)
    if validate is not None:
        _validate(table, validate, seed)
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
    drift = table.raw["canaries"]
    note(
        f"canaries: at most {drift['largest']:.1%} off; {drift['set_aside']} of {drift['measured']} measurements set aside"
    )
    note(f"wrote {path}")


def _validate(table: LatencyTable, subnets: int, seed: int) -> None:
    from nasvit_edge.profile import validate as validation

    with progress("validating") as show:
        found = validation.validate(table, subnets, seed + 1, on_progress=show)
    validation.store(table, found)
    show_validation(found)
