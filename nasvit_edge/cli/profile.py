"""`nasvit-edge profile`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nasvit_edge.cli import options
from nasvit_edge.cli.output import note, print_json, print_table, progress, progresses
from nasvit_edge.cli.tables import show_validation
from nasvit_edge.errors import NasvitEdgeError

if TYPE_CHECKING:
    from nasvit_edge.flows.profile import Request
    from nasvit_edge.latency import LatencyTable

_Text = str | None


def profile(
    device: Annotated[
        list[str] | None,
        typer.Option(
            envvar="NASVIT_EDGE_DEVICE",
            help="A device of `devices list`, or a device.toml; repeat it to measure several beside each other.",
        ),
    ] = None,
    runtime: Annotated[
        list[str] | None,
        typer.Option(help="Of the device's (its first unless given); repeatable, or: all. A table each."),
    ] = None,
    space: options.Space = "nasvit",
    threads: Annotated[int | None, typer.Option(min=1, max=256, help="Threads of the runtime.")] = None,
    precision: Annotated[
        _Text, typer.Option(help="Numbers of the model: fp32, fp16, int8 or w8 (8-bit weights only).")
    ] = None,
    protocol: Annotated[str, typer.Option(help="quick, default or thorough.")] = "default",
    sample: Annotated[
        _Text, typer.Option(help="Measure a part (20%) and estimate the rest, until --sample-error.")
    ] = None,
    sample_error: Annotated[
        _Text, typer.Option(show_default="5%", help="The error of estimates to reach, with --sample.")
    ] = None,
    validate: Annotated[
        int | None, typer.Option(min=4, max=10_000, help="Then measure whole subnets against predictions.")
    ] = None,
    sustained: Annotated[
        _Text, typer.Option(help="Then run a subnet so long (10m) without a pause: what the device keeps up.")
    ] = None,
    address: Annotated[
        _Text, typer.Option(help="Of an ssh device: user@host, or a Host of ~/.ssh/config.")
    ] = None,
    serial: Annotated[_Text, typer.Option(help="Of an Android device, as `adb devices` lists it.")] = None,
    lock_clocks: Annotated[
        bool, typer.Option("--lock-clocks", help="Set fixed clocks meanwhile; restored afterwards.")
    ] = False,
    tls: Annotated[
        bool, typer.Option("--tls", help="Serve phones by HTTPS, with a certificate of its own.")
    ] = False,
    interface: Annotated[_Text, typer.Option(help="The address of this machine that phones reach.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="To serve phones on; 0: a free one.")] = 0,
    wait: Annotated[str, typer.Option(help="For a device that is away.")] = "10m",
    web_runtime: Annotated[
        Path | None, typer.Option(help="A folder with onnxruntime-web, instead of fetching it.")
    ] = None,
    offline: Annotated[
        Path | None, typer.Option(help="Write a bundle for a device without a network, and stop.")
    ] = None,
    results: Annotated[Path | None, typer.Option(help="What such a device measured.")] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Measure all of it, also where a table has what still holds.")
    ] = False,
    name: Annotated[_Text, typer.Option(help="Call the device this in the table: pixel-8.")] = None,
    seed: options.Seed = 0,
    out: Annotated[Path, typer.Option(help="The folder of the table.")] = Path("latency_tables"),
    as_json: options.Json = False,
) -> None:
    """Example:  nasvit-edge profile --device jetson --space nano

    Time every op of a space on a device and write a latency table. Interrupted, the same command
    continues where it was.
    """
    from nasvit_edge.flows import profile as flow
    from nasvit_edge.profile.run import Choice, Sample
    from nasvit_edge.transport.ways import Ways
    from nasvit_edge.units import seconds, share

    if sample is None and sample_error is not None:
        raise NasvitEdgeError(
            f"--sample-error {sample_error} is for --sample 20%: give that too, or leave it out"
        )
    if sample is not None and again:
        raise NasvitEdgeError("--again measures everything, and --sample a part: leave out one of the two")
    request = flow.Request(
        space=space,
        devices=tuple(device or ("host",)),
        runtimes=tuple(runtime or ()),
        choice=Choice(
            threads=threads,
            precision=precision,
            protocol=protocol,
            name=name,
            seed=seed,
            again=again,
            sample=None if sample is None else Sample(share=share(sample), error=share(sample_error or "5%")),
        ),
        ways=Ways(
            lock_clocks=lock_clocks,
            tls=tls,
            interface=interface,
            port=port,
            wait_s=seconds(wait),
            web_runtime=None if web_runtime is None else str(web_runtime),
        ),
        validate=validate,
        sustained_s=None if sustained is None else seconds(sustained),
        address=address,
        serial=serial,
        out=out,
    )
    if offline is not None or results is not None:
        _offline(request, offline, results, as_json)
        return
    with progresses() as started:
        made, failed = flow.go(request, note=note, progress=started)
    found = [table for tables in made.values() for table in tables]
    _show(found, as_json)
    if failed:
        raise next(iter(failed.values()))


def _offline(request: Request, offline: Path | None, results: Path | None, as_json: bool) -> None:
    from nasvit_edge.flows import profile as flow

    if offline is not None:
        with progress("bundle") as show:
            text = flow.bundle(request, offline, show)
        note(text)
    if results is not None:
        _show([flow.finished(request, results, note)], as_json)


def _show(tables: list[LatencyTable], as_json: bool) -> None:
    if as_json:
        print_json([_summary(table) for table in tables])
        return
    for table in tables:
        _print(table)


def _summary(table: LatencyTable) -> dict[str, Any]:
    from nasvit_edge.records import content

    keys = ("device", "runtime", "threads", "precision", "composition", "sustained", "validation")
    told = content(table.file)
    return {"table": str(table.path), "ops": len(table.ops_ms)} | {key: told.get(key) for key in keys}


def _print(table: LatencyTable) -> None:
    from nasvit_edge.units import show_ms

    file = table.file
    rows = []
    for end, config in (("smallest", table.space.smallest()), ("largest", table.space.largest())):
        made = table.predict(config)
        interval = (
            "-"
            if made.low_ms is None or made.high_ms is None
            else f"{show_ms(made.low_ms)} .. {show_ms(made.high_ms)}"
        )
        rows.append([end, show_ms(made.ms), interval])
    what = f"{file.runtime} {file.runtime_version or ''}".strip()
    print_table(
        ["subnet", "predicted", "90 % interval"],
        rows,
        f"{len(table.ops_ms)} ops on {file.device}, {what}, {file.precision}, {file.threads} thread(s)",
    )
    drift, warm = file.canaries, file.sustained
    if drift is not None:
        note(
            f"canaries: at most {drift.largest:.1%} off; {drift.set_aside} of {drift.measured} measurements set aside"
        )
    if warm is not None:
        note(
            f"sustained: {show_ms(warm.minute1_ms)} in the first minute, {show_ms(warm.steady_ms)} in the last quarter of "
            f"{warm.seconds:g} s (factor {warm.factor:.3f}); search --steady keeps budgets when it is warm"
        )
    if file.validation is not None:
        show_validation(file.validation)
    note(f"table {table.path}")
