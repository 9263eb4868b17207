"""Which latency table a command answers from: what was given is met or refused, what was left out is filled in and told."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from nasvit_edge.device import load_device
from nasvit_edge.errors import NasvitEdgeError, TableError
from nasvit_edge.hints import command
from nasvit_edge.latency import LatencyTable, load_table
from nasvit_edge.latency.selection import KEYS, USUAL, Selected, Wanted, found_tables, heading, table_for
from nasvit_edge.latency.speed import TodaysSpeed
from nasvit_edge.latency.table import HOST, refuse_other, selected_table
from nasvit_edge.listening import Listener
from nasvit_edge.ops import lower
from nasvit_edge.profile.speed import todays_speed
from nasvit_edge.profile.trust import concerns, not_faster, outdated, resting
from nasvit_edge.requests.options import TableChoice
from nasvit_edge.searching.saved import Outdated
from nasvit_edge.space import SearchSpace, SubnetConfig


@dataclass(frozen=True, slots=True)
class Answering:
    """A table, and what of device, runtime, threads and precision was left out and is its own."""

    table: LatencyTable
    filled: Mapping[str, Any] = field(default_factory=dict)


def wanted_of(asked: TableChoice) -> Wanted:
    """With the name of a device in place of its file; NasvitEdgeError where two of these contradict each other."""
    return Wanted.of(asked.device, **{key: getattr(asked, key) for key in KEYS})


def _file_name(asked: TableChoice) -> str:
    """The device as it was given, a path where that was its TOML."""
    return (asked.device or asked.usual).split(":")[0]


def answering(
    asked: TableChoice, space: SearchSpace, listener: Listener, *, measures: bool = False
) -> Answering:
    """The table that meets what was asked; where this machine has none it is measured, if the command `measures`.

    Raises:
        TableError: none meets it, or several do; or the file is of something else.
    """
    wanted = wanted_of(asked)
    if asked.table is not None:
        table = load_table(str(asked.table), space=space)
        refuse_other(table, wanted)
        return Answering(_whole(table, asked, listener))
    name, defaults = _own(_file_name(asked))
    device = {} if asked.device else {"device": name}
    wanted = replace(wanted, device=name)
    try:
        selected = table_for(wanted, space, defaults, given=_file_name(asked))
    except TableError as missing:
        if not measures or name != "host":
            raise
        listener.note(f"{missing}; measuring it now, once")
        selected = _measured(wanted, space, listener)
    if selected.told():
        listener.note(f"table {selected.path.name}: {selected.told()}")
    table = _whole(selected_table(selected, space), asked, listener)
    return Answering(table, device | dict(selected.filled))


def _own(name: str) -> tuple[str, Mapping[str, Any] | None]:
    """A device's name, and what it is measured with unless a command says otherwise; None of an imported table's device.

    Raises:
        DeviceError: no device and no table is called so.
    """
    try:
        device = load_device(name)
    except NasvitEdgeError:
        if not any(heading(path).get("device") == name for path in found_tables()):
            raise
        return name, None
    defaults = {"runtime": device.runtimes[0], "threads": device.threads, "precision": device.precision}
    return device.name, defaults


def _measured(wanted: Wanted, space: SearchSpace, listener: Listener) -> Selected:
    from nasvit_edge.profile.run import profile

    choice = wanted.filled(HOST).given()
    path = profile(space, "host", protocol="default", listener=listener, **choice)
    left_out = {key: value for key, value in choice.items() if key not in wanted.given()}
    return Selected(path, left_out, USUAL.format("host"))


def _whole(table: LatencyTable, asked: TableChoice, listener: Listener) -> LatencyTable:
    if not asked.interpolate:
        return table
    listener.note(f"estimating what table {table.path.name} does not have, a few seconds")
    return table.interpolated()


def trusted(
    table: LatencyTable, listener: Listener, configs: Iterable[SubnetConfig] = (), *, by_file: bool = False
) -> LatencyTable:
    """The table, if nothing serious speaks against it; lesser things, and its validation, are noted.

    Args:
        configs: what is to be predicted; the ends of the space where there are none.
        by_file: the user named the file, and is told of serious things, too.

    Raises:
        TableError: it is of another machine, or much of its time is of graphs that the code no longer makes.
    """
    chosen = list(configs) or [table.space.smallest(), table.space.largest()]
    for concern in concerns(table, chosen):
        if concern.serious and not by_file:
            raise TableError(
                f"table {table.path.name!r} does not hold here: {concern.text}; measure it again: {table.profiling()}, "
                f"or name it: --table {table.path}"
            )
        listener.note(f"{'WARNING' if concern.serious else 'note'}: table {table.path.name}: {concern.text}")
    listener.note(f"table {table.path.name}: {table.setting.line()}; {validity(table)}")
    return table


def not_faster_by_tables(
    space: SearchSpace, config: SubnetConfig, runtime: str, precision: str
) -> Iterator[str]:
    """Of each table at hand of this space, runtime and precision that says so: the precision gives accuracy up for nothing there."""
    asked = {"runtime": runtime, "precision": precision, "space": space.name}
    for path in found_tables():
        if {key: heading(path).get(key) for key in asked} != asked:
            continue
        with contextlib.suppress(NasvitEdgeError):  # of another space of this name, or damaged
            if text := not_faster(load_table(path, space=space), [config]):
                yield f"by table {path.name} {text}"


def speed_today(table: LatencyTable, asked: TableChoice, listener: Listener) -> TodaysSpeed | None:
    """How fast this machine is today, where the table is this machine's; noted where that differs from the table.

    Under torchrun nothing is timed: the processes would disturb each other, and have to agree.
    """
    if asked.no_canary or "WORLD_SIZE" in os.environ:
        return None
    speed = todays_speed(table, listener)
    if speed is not None and speed.differs:
        listener.note(
            f"table {table.path.name}: {speed.line()}; predictions for today's speed stand beside the table's"
        )
    return speed


def resting_on_changed(table: LatencyTable, config: SubnetConfig) -> Outdated:
    """How many of a subnet's ops are computed another way since they were measured, and their share of its time."""
    keys = outdated(table, lower(table.space, config))
    if not keys:
        return Outdated()
    return Outdated(table=table.path.name, ops=len(keys), share=resting(table, config, keys))


def validity(table: LatencyTable) -> str:
    """What is known of a table's predictions, in one line."""
    validation = table.file.validation
    if validation is None:
        return f"predictions not validated ({command('tables', 'validate', table.path, space=table.space.given)})"
    return (
        f"predictions off by {validation.mape:.1%} on average over {validation.count} whole subnets "
        f"({validation.within_10:.0%} within 10 %), which repeat within {validation.repeat_mape:.1%}"
    )
