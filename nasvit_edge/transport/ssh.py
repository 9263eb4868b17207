"""Devices over ssh: any Linux board, Raspberry Pi and Jetson, by the OpenSSH client and the user's own configuration."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from nasvit_edge.device import Device
from nasvit_edge.errors import DeviceError
from nasvit_edge.transport import jetson
from nasvit_edge.transport.job import (
    MODEL_SECONDS,
    Job,
    OnProgress,
    answers,
    measurement,
    one_by_one,
    requests,
)
from nasvit_edge.transport.local import about_of, described
from nasvit_edge.transport.outputs import trtexec
from nasvit_edge.transport.remote_files import RemoteFiles
from nasvit_edge.transport.ssh_link import SshLink, destination
from nasvit_edge.transport.ways import Note, Step, Ways
from nasvit_edge.units import show_bytes

_ABOUT_S = 120.0
_BUILD_S = 3600.0  # the engine of a whole subnet on a small board
_LOSSES = 3  # of the folder with the models, at one request
_NO_SUDO = "allow it without a password (sudo visudo) or run `sudo jetson_clocks` there yourself"


class SshRunner:
    """Times models on a device behind ssh; survives a connection that is lost and a runtime that crashes."""

    def __init__(self, device: Device, ways: Ways, note: Note) -> None:
        self.device, self.note = device, note
        self.link = SshLink(device, ways, note)
        self.files = RemoteFiles(self.link)
        self.answer: dict[str, Any] = {}
        self.board: dict[str, Any] = {}
        self.conditions: dict[str, Any] = {}
        self.flags: list[str] = []
        self.built: set[tuple[int, str]] = set()

    def about(self) -> dict[str, Any]:
        """What the device is; its conditions are those of now."""
        answer = self.link.ask({"id": "about", "ask": "about"}, _ABOUT_S)
        found = about_of(answer, self.device.name)
        self.answer = answer
        self.board = answer["board"] if isinstance(answer.get("board"), dict) else {}
        found["conditions"] |= jetson.conditions(self.board)
        found["runtimes"] = {name: trtexec.version(text) for name, text in found["runtimes"].items()}
        self.conditions = found["conditions"]  # what measuring adds, the table says too
        self.flags = jetson.flags(self.board, self.conditions)
        self._say(self.conditions)
        return found

    def _say(self, conditions: dict[str, Any]) -> None:
        """What makes latencies worth less."""
        name, wanted, mode = self.device.name, self.device.power_mode, conditions.get("power_mode")
        if wanted and mode != wanted:
            self.note(f"{name}: its power mode is {mode!r}, not {wanted!r}; see there: sudo nvpmodel -q")
        refused = self.link.started.get("clocks_refused")
        if refused:
            self.note(f"{name}: its clocks could not be locked ({refused}); {_NO_SUDO}")
        elif self.flags:
            self.note(
                f"{name}: its clocks are not known to be locked: latencies are flagged; lock them by --lock-clocks"
            )
        if conditions.get("throttled", "no") != "no":
            self.note(f"{name}: {conditions['throttled']} now: give it a better power supply or cooling")

    def cores(self, threads: int) -> tuple[int, ...]:
        """The fastest cores, the last of equals; none where all are needed or the device does not say."""
        if not self.answer:
            self.about()
        told = self.answer.get("cores_by_clock")
        known = told if isinstance(told, list) and all(type(core) is int for core in told) else []
        return () if threads >= len(known) else tuple(sorted(known[:threads]))

    def bring(self, models: Sequence[Path], on_progress: OnProgress) -> None:
        """Send the models; DeviceError where they cannot be."""
        self.files.bring(models, on_progress)

    def measure(self, job: Job, timeout_s: float = MODEL_SECONDS) -> dict[str, Any]:
        """The device's answer; one with `error` where the model, the runtime or its output failed."""
        return self._with_models([job], lambda paths: [self._measured(job, paths[0], timeout_s)])[0]

    def together(self, jobs: Sequence[Job]) -> list[dict[str, Any]]:
        """The answers of models that take turns; one by one where that is a tool's work, or there is no room for all."""
        tool = any(job.runtime == "tensorrt" for job in jobs)
        if tool or self.files.one_by_one or self.answer.get("turns") is not True:
            return one_by_one(self, jobs)
        self.fresh()
        return self._with_models(jobs, lambda paths: self._taken_turns(jobs, paths))

    def _with_models(
        self, jobs: Sequence[Job], ask: Callable[[list[str]], list[dict[str, Any]]]
    ) -> list[dict[str, Any]]:
        """The answers of models that are there, however often the device loses its folder on the way."""
        models = [Path(job.model) for job in jobs]
        found: list[dict[str, Any]] = []
        for _ in range(_LOSSES):
            paths, starts = [self.files.push(model) for model in models], self.link.starts
            found = ask(paths)
            if any("no space left" in str(answer.get("error", "")) for answer in found):
                raise self.files.error("no space left")
            good = all("error" not in answer for answer in found)
            if good or self.link.starts == starts or all(map(self.files.has, models)):
                break
        return found

    def _taken_turns(self, jobs: Sequence[Job], paths: list[str]) -> list[dict[str, Any]]:
        answer = self.link.ask(requests(jobs, model=paths), len(jobs) * MODEL_SECONDS)
        return [
            own if "error" in own else self._flagged(own, job)
            for own, job in zip(answers(answer, jobs), jobs, strict=True)
        ]

    def _measured(self, job: Job, path: str, timeout_s: float) -> dict[str, Any]:
        request = job.request(model=path)
        if job.runtime == "tensorrt":
            failure = self._build(request, path, Path(job.model))
            if failure is not None:
                return failure
        answer = self.link.ask(request, timeout_s + job.sustained_s)
        if "error" in answer:
            return answer
        if isinstance(answer.get("trtexec"), dict) and answer["trtexec"].get("flags"):
            self.conditions["trtexec_flags"] = str(answer["trtexec"]["flags"])[:400]
        answer = jetson.completed(answer, sustained=job.sustained_s > 0)
        if "error" in answer:
            return answer
        return self._flagged(answer, job)

    def _flagged(self, answer: dict[str, Any], job: Job) -> dict[str, Any]:
        told = answer.get("flags") if isinstance(answer.get("flags"), list) else []
        return measurement(answer | {"flags": [*(told or []), *self.flags]}, job.id)

    def _build(self, request: dict[str, Any], path: str, model: Path) -> dict[str, Any] | None:
        """Build the engine, once while it and the runner stay; the answer where that failed."""
        if (self.link.starts, path) in self.built and not self.files.one_by_one:
            return None
        built = self.link.ask(request | {"ask": "build", "types": jetson.number_types(model)}, _BUILD_S)
        if "error" in built:
            return built
        self.built.add((self.link.starts, path))
        return None

    def fresh(self) -> None:
        """End the runner's process; the next model starts another."""
        self.link.fresh()

    def close(self) -> None:
        """End the runner, remove what was sent, restore what was set."""
        self.link.end()


@contextlib.contextmanager
def ssh_runner(device: Device, ways: Ways, note: Note) -> Iterator[SshRunner]:
    """A runner on the device; nothing of it is left there afterwards, also after Ctrl-C.

    Raises:
        DeviceError: the device is not reached, or cannot run it; one line that says what to do.
    """
    runner = SshRunner(device, ways, note)
    try:
        runner.link.start()
        yield runner
    finally:
        runner.close()


def check_ssh(device: Device, ways: Ways) -> Iterator[Step]:
    """What is reached and found on the way to a device."""
    said: list[str] = []
    try:
        with ssh_runner(device, ways, said.append) as runner:
            started = runner.link.started
            yield Step("ssh", True, f"{destination(device)[0]} works without a password")
            yield Step("python", True, f"{device.python or 'python3'} {started.get('python')}")
            free = int(started.get("free_bytes", 0))
            yield Step("folder", True, f"{started['folder']}, {show_bytes(free)} free")
            found = runner.about()
            if "numpy" in (runner.answer.get("missing") or ()):
                yield Step("numpy", False, "not there", "run there: python3 -m pip install numpy")
            yield from described(found, device)
    except DeviceError as error:
        text, _, todo = str(error).removeprefix(f"device {device.name!r}: ").partition("; ")
        yield Step("ssh", False, text, todo)
    for text in said:
        yield Step("note", False, text)
