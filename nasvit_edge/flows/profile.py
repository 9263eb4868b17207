"""`profile` from start to end: one device or several at once, each table measured, validated, kept warm."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from nasvit_edge import systems
from nasvit_edge.device import Device, load_device
from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.hints import command
from nasvit_edge.latency import LatencyTable, load_table
from nasvit_edge.listening import Listener, PlannedStep
from nasvit_edge.profile import schedule, sustained, validate
from nasvit_edge.profile.models import Models
from nasvit_edge.profile.protocol import load_protocol
from nasvit_edge.profile.run import Choice, Sample, measure_table, prepare
from nasvit_edge.requests.profile import Request
from nasvit_edge.runtimes import RUNTIMES
from nasvit_edge.space import SearchSpace, load_space
from nasvit_edge.transport.connect import connect
from nasvit_edge.transport.job import Runner
from nasvit_edge.transport.ways import Ways
from nasvit_edge.units import seconds, share


def bundle(request: Request, path: Path, listener: Listener) -> str:
    """Write what a device without a network is to measure; what to do with it, in a line."""
    from nasvit_edge.profile.offline import write_bundle

    ((device, choices),) = _single(request)
    package = write_bundle(
        load_space(request.space), device, choices[0], path, out=request.out, listener=listener
    )
    return (
        f"wrote {package.path}: {package.jobs} jobs with {package.models} models, about {max(1, round(package.minutes))} min on the device; "
        f"then: {command('profile', device=device.name, space=request.space, results='result.json', out=request.out)}"
    )


def finished(request: Request, path: Path, listener: Listener) -> LatencyTable:
    """The table from what a device measured without a network."""
    from nasvit_edge.profile.results import read_results

    table_path = read_results(path, load_space(request.space), out=request.out, listener=listener)
    return load_table(table_path, space=request.space)


def _single(request: Request) -> list[tuple[Device, list[Choice]]]:
    pairs = list(targets(request).values())
    if len(pairs) != 1 or len(pairs[0][1]) != 1:
        raise NasvitEdgeError("a bundle is for one device and one runtime; write one for each")
    return pairs


class _Stopped(BaseException):
    """Raised in a device's thread where the others are to end."""


def targets(request: Request) -> dict[str, tuple[Device, list[Choice]]]:
    """Name -> device and its tables, everything checked before anything is connected.

    Raises:
        NasvitEdgeError: unknown devices, runtimes and the like; options that fit one device only.
    """
    choice = _choice(request)
    seconds(request.sustained or "1s")  # an error before anything is measured
    names = list(dict.fromkeys(request.device or ("host",)))
    if len(names) > 1 and (request.address or request.serial or request.name):
        raise NasvitEdgeError(
            "--address, --serial and --name are for one device; put them into device.toml files"
        )
    by_name = {}
    for name in names:
        device = load_device(name)
        device = device.at(request.address, request.serial)
        asked = request.runtime or (device.runtimes[0],)
        able = [name for name in device.runtimes if systems.has_format(RUNTIMES[name].form)]
        wanted = able if "all" in asked else asked
        choices = [replace(choice, runtime=runtime) for runtime in dict.fromkeys(wanted)]
        for one in choices:
            prepare(device, one)
        by_name[name] = (device, choices)
    return by_name


def _choice(request: Request) -> Choice:
    """What every table is measured with, but for its runtime."""
    sample = None
    if request.sample is not None:
        sample = Sample(share=share(request.sample), error=share(request.sample_error or "5%"))
    elif request.sample_error is not None:
        raise NasvitEdgeError(
            f"--sample-error {request.sample_error} is for --sample 20%: give that too, or leave it out"
        )
    if sample is not None and request.again:
        raise NasvitEdgeError("--again measures everything, and --sample a part: leave out one of the two")
    return Choice(
        threads=request.threads,
        precision=request.precision,
        protocol=request.protocol,
        name=request.name,
        seed=request.seed,
        again=request.again,
        sample=sample,
    )


def _ways(request: Request) -> Ways:
    return Ways(
        lock_clocks=request.lock_clocks,
        tls=request.tls,
        interface=request.interface,
        port=request.port,
        wait_s=seconds(request.wait),
        web_runtime=None if request.web_runtime is None else str(request.web_runtime),
    )


def profile_devices(
    request: Request, started: Callable[[str], Listener]
) -> tuple[dict[str, list[LatencyTable]], dict[str, NasvitEdgeError]]:
    """Measure all tables of all devices, devices beside each other.

    Returns:
        Device -> its finished tables, and device -> why it ended early. One device's trouble does not end the others.
    """
    wanted, ways, stop = targets(request), _ways(request), threading.Event()
    if len(wanted) == 1:
        ((name, (device, choices)),) = wanted.items()
        return {name: _one(request, ways, device, choices, started(name))}, {}
    ways = replace(ways, waiting=lambda: _end_if(stop))
    listeners = {name: _of(name, started(name), stop) for name in wanted}
    tables: dict[str, list[LatencyTable]] = {}
    failed: dict[str, NasvitEdgeError] = {}
    with concurrent.futures.ThreadPoolExecutor(len(wanted)) as pool:
        jobs = {
            pool.submit(_one, request, ways, device, choices, listeners[name]): name
            for name, (device, choices) in wanted.items()
        }
        try:
            for job in concurrent.futures.as_completed(jobs):
                _take(job, jobs, tables, failed, listeners)
        except BaseException:
            stop.set()
            raise
    return tables, failed


def _take(
    job: concurrent.futures.Future[list[LatencyTable]],
    jobs: Mapping[concurrent.futures.Future[list[LatencyTable]], str],
    tables: dict[str, list[LatencyTable]],
    failed: dict[str, NasvitEdgeError],
    listeners: Mapping[str, Listener],
) -> None:
    try:
        tables[jobs[job]] = job.result()
    except NasvitEdgeError as error:
        failed[jobs[job]] = error
        listeners[jobs[job]].note(str(error))


def _one(
    request: Request, ways: Ways, device: Device, choices: Sequence[Choice], listener: Listener
) -> list[LatencyTable]:
    """All tables of one device, on one connection."""
    space, tables = load_space(request.space), []
    with connect(device, ways, listener) as runner:
        for place, choice in enumerate(choices):
            listener.plan([step for one in choices[place:] for step in _steps(request, space, device, one)])
            path = measure_table(space, device, runner, choice, out=request.out, listener=listener)
            listener.note(f"wrote {path}")
            table = load_table(path, space=request.space)
            tables.append(_afterwards(request, table, runner, listener))
    return tables


def _steps(request: Request, space: SearchSpace, device: Device, choice: Choice) -> list[PlannedStep]:
    """What is done for a table."""
    runtime, _, precision = prepare(device, choice)
    return schedule.steps(
        Models(space, runtime, Path(), precision=precision),
        load_protocol(choice.protocol),
        sample=choice.sample.share if choice.sample else None,
        sustained_s=seconds(request.sustained) if request.sustained else 0.0,
        validate=request.validate or 0,
    )


def _afterwards(request: Request, table: LatencyTable, runner: Runner, listener: Listener) -> LatencyTable:
    """The table with what is measured once it is there."""
    seed = request.seed
    if request.sustained is not None:
        lasting_s = seconds(request.sustained)
        sustained.store(table, sustained.sustain(table, runner, lasting_s, seed, listener))
        table = load_table(table.path, space=request.space)
    if request.validate is not None:
        validation = validate.validate(table, request.validate, seed + 1, listener, runner)
        validate.store(table, validation)
        table = load_table(table.path, space=request.space)
    return table


def _end_if(stop: threading.Event) -> None:
    if stop.is_set():
        raise _Stopped


def _of(name: str, listener: Listener, stop: threading.Event) -> Listener:
    """Notes begin with the device's name, and progress ends its thread at the next step."""

    def progress(done: int, total: int, detail: str) -> None:
        _end_if(stop)
        listener.progress(done, total, detail)

    return replace(listener, note=lambda text: listener.note(f"{name}: {text}"), progress=progress)
