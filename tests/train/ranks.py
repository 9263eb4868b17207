"""Real processes on loopback that train together, for tests: started once, each waits for calls."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import socket
import sys
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from nasvit_edge.cli import main
from nasvit_edge.errors import NasvitEdgeError, TrainingError
from nasvit_edge.train.world import World, world

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["torch", "nasvit_edge.cli", "nasvit_edge.train.run", "pytest", "hypothesis"])


class Ranks:
    """Processes with a world each; `call(function, ...)` runs `function(world, ...)` on all of them."""

    def __init__(self, size: int, timeout_s: float = 60.0) -> None:
        port = _free_port()
        pairs = [_context.Pipe() for _ in range(size)]
        self.pipes = [ours for ours, _ in pairs]
        self.processes = [
            _context.Process(target=_serve, args=(rank, size, port, timeout_s, theirs), daemon=True)
            for rank, (_, theirs) in enumerate(pairs)
        ]
        for process in self.processes:
            process.start()
        for _, theirs in pairs:
            theirs.close()

    def call(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """What every rank returns; errors of a rank are returned too."""
        self.send(function, *arguments)
        return [self.answer(rank) for rank in range(len(self.pipes))]

    def send(self, function: Callable[..., Any], *arguments: Any) -> None:
        for pipe in self.pipes:
            pipe.send((function, arguments))

    def answer(self, rank: int, seconds: float = 60.0) -> Any:
        assert self.pipes[rank].poll(seconds), f"rank {rank} hangs"
        return self.pipes[rank].recv()

    def end(self) -> None:
        for pipe in self.pipes:
            with contextlib.suppress(OSError):
                pipe.send(None)
        for process in self.processes:
            process.join(10)
            process.kill()


@contextlib.contextmanager
def ranks(size: int = 2, timeout_s: float = 60.0) -> Iterator[Ranks]:
    started, threads = Ranks(size, timeout_s), torch.get_num_threads()
    torch.set_num_threads(1)  # here as there
    try:
        yield started
    finally:
        torch.set_num_threads(threads)
        started.end()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _environment(rank: int, size: int, port: int) -> None:
    """What torchrun sets."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    variables = {"RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(rank)}
    os.environ |= variables | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}


def _serve(rank: int, size: int, port: int, timeout_s: float, pipe: Connection) -> None:
    torch.set_num_threads(1)
    _environment(rank, size, port)
    with contextlib.suppress(EOFError, TrainingError), world(timeout_s) as together:
        _answer_calls(together, pipe)


def _answer_calls(together: World, pipe: Connection) -> None:
    while (asked := pipe.recv()) is not None:
        function, arguments = asked
        try:
            pipe.send(function(together, *arguments))
        except NasvitEdgeError as error:
            pipe.send(error)


class Program:
    """`nasvit-edge` with options on several ranks at once; what each printed is in a file."""

    def __init__(self, options: list[str], folder: Path, size: int = 2, timeout_s: float = 60.0) -> None:
        self.outputs = [folder / f"rank{rank}.txt" for rank in range(size)]
        port = _free_port()
        self.processes = [
            _context.Process(
                target=_run_program, args=(options, rank, size, port, timeout_s, output), daemon=True
            )
            for rank, output in enumerate(self.outputs)
        ]
        for process in self.processes:
            process.start()

    def ended(self, seconds: float = 60.0) -> list[int | None]:
        """The exit codes; a rank that hangs fails the test."""
        for process in self.processes:
            process.join(seconds)
            if process.exitcode is None:
                for each in self.processes:
                    each.kill()
                raise AssertionError(f"a rank hangs: {[path.read_text() for path in self.outputs]}")
        return [process.exitcode for process in self.processes]

    def texts(self) -> list[str]:
        return [path.read_text() for path in self.outputs]


def _run_program(options: list[str], rank: int, size: int, port: int, timeout_s: float, output: Path) -> None:
    _environment(rank, size, port)
    with output.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    from nasvit_edge.train import world as module

    module.world.__defaults__ = (timeout_s, os.environ)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))
    sys.argv = ["nasvit-edge", *options]
    main()
