"""How a device is to be reached, and what is found on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

from nasvit_edge.device import Device
from nasvit_edge.errors import NasvitEdgeError
from nasvit_edge.listening import Listener
from nasvit_edge.transport.job import Runner


@dataclass(frozen=True, slots=True, kw_only=True)
class Ways:
    """How a device is to be reached and treated, where the command says so.

    Attributes:
        lock_clocks: set the highest clocks for the measurement and restore them afterwards.
        tls: serve by HTTPS with a self-signed certificate (`pull`).
        interface: the address to serve on (`pull`).
        port: to serve on; 0 takes a free one.
        wait_s: how long to wait for a device that is away.
        waiting: called again and again meanwhile; what it raises ends the wait.
        web_runtime: a folder with onnxruntime-web's files, instead of fetching them.
    """

    lock_clocks: bool = False
    tls: bool = False
    interface: str | None = None
    port: int = 0
    wait_s: float = 600.0
    waiting: Callable[[], None] = lambda: None
    web_runtime: str | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was looked at: what was found and, where that is not enough, what to do."""

    name: str
    good: bool
    found: str
    todo: str = ""


def failed(name: str, error: NasvitEdgeError) -> Step:
    """An error as a step."""
    return Step(name, False, error.what, error.todo)


@dataclass(frozen=True, slots=True, kw_only=True)
class Transport:
    """How devices of one kind are reached; the module of that name has it as `TRANSPORT`.

    Attributes:
        connect: a runner on the device; on leaving, it has ended there and what it left or set is undone.
        check: what is reached and found, step by step; ends after the first step that nothing can follow.
        tells_runtimes: a runner says which runtimes its device has, before a model is sent.
    """

    connect: Callable[[Device, Ways, Listener], AbstractContextManager[Runner]]
    check: Callable[[Device, Ways, Listener], Iterator[Step]]
    tells_runtimes: bool = False
