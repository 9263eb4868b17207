"""Devices over ssh: any Linux board, Raspberry Pi and Jetson, by the OpenSSH client and the user's own configuration."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from msgspec.structs import replace

from nasvit_edge.device import Device
from nasvit_edge.errors import DeviceError
from nasvit_edge.listening import Listener
from nasvit_edge.records import Fact
from nasvit_edge.transport import jetson
from nasvit_edge.transport.answers import (
    Answer,
    Broken,
    Failure,
    Full,
    Message,
    SshDescription,
    about_of,
    in_turns,
    measurement,
)
from nasvit_edge.transport.job import MODEL_SECONDS, Job, about_request, one_by_one, requests
from nasvit_edge.transport.local import described
from nasvit_edge.transport.outputs import trtexec
from nasvit_edge.transport.remote_files import RemoteFiles
from nasvit_edge.transport.ssh_link import SshLink, destination
from nasvit_edge.transport.ways import Step, Transport, Ways, failed
from nasvit_edge.units import show_bytes

_ABOUT_S = 120.0
_BUILD_S = 3600.0  # the engine of a whole subnet on a small board
_LOSSES = 3  # of the folder with the models, at one request
_NO_POWER = (
    "tegrastats tells no power (some boards do for root only): no energy is given; see there: sudo tegrastats"
)
_NO_SUDO = "allow it without a password (sudo visudo) or run `sudo jetson_clocks` there yourself"


class SshRunner:
    """Times models on a device behind ssh; survives a connection that is lost and a runtime that crashes."""

    def __init__(self, device: Device, ways: Ways, listener: Listener) -> None:
        self.device, self.note = device, listener.note
        self.link = SshLink(device, ways, listener)
        self.files = RemoteFiles(self.link)
        self.told: SshDescription | None = None
        self.conditions: dict[str, Fact] = {}
        self.flags: list[str] = []
        self.built: set[tuple[int, str]] = set()

    def about(self) -> SshDescription:
        """What the device is; its conditions are those of now."""
        answer = self.link.ask(about_request(self.device.cores), _ABOUT_S)
        description = about_of(answer, self.device.name, SshDescription)
        runtimes = self._usable(description.runtimes)
        self.conditions = description.conditions | jetson.conditions(description.board)
        self.flags = jetson.flags(description.board, self.conditions)
        # with what measuring adds
        self.told = replace(description, runtimes=runtimes, conditions=self.conditions)
        self._say(self.conditions)
        return self.told

    def _usable(self, versions: Mapping[str, str]) -> dict[str, str]:
        """The runtimes that are there, without a TensorRT that is too old."""
        usable = {name: trtexec.version(text) for name, text in versions.items()}
        if trtexec.is_too_old(usable.get("tensorrt", "")):
            self.note(f"{self.device.name}: {trtexec.TOO_OLD}")
            del usable["tensorrt"]
        return usable

    def _say(self, conditions: dict[str, Fact]) -> None:
        """What makes latencies worth less."""
        name, wanted, mode = self.device.name, self.device.power_mode, conditions.get("power_mode")
        if wanted and mode != wanted:
            self.note(f"{name}: its power mode is {mode!r}, not {wanted!r}; see there: sudo nvpmodel -q")
        refused = self.link.started.clocks_refused if self.link.started else ""
        if refused:
            self.note(f"{name}: its clocks could not be locked ({refused}); {_NO_SUDO}")
        elif self.flags:
            self.note(
                f"{name}: its clocks are not known to be locked: latencies are flagged; lock them by --lock-clocks"
            )
        if self.told is not None and jetson.tells_no_power(self.told.board):
            self.note(f"{name}: {_NO_POWER}")
        if conditions.get("throttled", "no") != "no":
            self.note(f"{name}: {conditions['throttled']} now: give it a better power supply or cooling")

    def cores(self, threads: int) -> tuple[int, ...]:
        """The fastest cores, the last of equals; none where all are needed or the device does not say."""
        known = (self.told or self.about()).cores_by_clock
        return () if threads >= len(known) else tuple(sorted(known[:threads]))

    def bring(self, models: Sequence[Path], listener: Listener) -> None:
        """Send the models; DeviceError where they cannot be."""
        self.files.bring(models, listener)

    def measure(self, job: Job, timeout_s: float = MODEL_SECONDS) -> Answer:
        """The device's measurement, or why the model, the runtime or its output failed."""
        return self._with_models([job], lambda paths: [self._measured(job, paths[0], timeout_s)])[0]

    def together(self, jobs: Sequence[Job]) -> list[Answer]:
        """The answers of models that take turns; one by one where that is a tool's work, or there is no room for all."""
        tool = any(job.runtime == "tensorrt" for job in jobs)
        if tool or self.files.one_by_one or self.told is None or not self.told.turns:
            return one_by_one(self, jobs)
        self.fresh()
        return self._with_models(jobs, lambda paths: self._taken_turns(jobs, paths))

    def _with_models(self, jobs: Sequence[Job], ask: Callable[[list[str]], list[Answer]]) -> list[Answer]:
        """The answers of models that are there, however often the device loses its folder on the way."""
        models = [Path(job.model) for job in jobs]
        answers: list[Answer] = []
        for _ in range(_LOSSES):
            paths, starts = [self.files.push(model) for model in models], self.link.starts
            answers = ask(paths)
            failures = [answer for answer in answers if isinstance(answer, Failure)]
            full = next((answer for answer in failures if isinstance(answer, Full)), None)
            if full is not None:
                raise self.files.error(full)
            broken = any(isinstance(answer, Broken) for answer in failures)
            if not failures or broken or self.link.starts == starts or all(map(self.files.has, models)):
                break
        return answers

    def _taken_turns(self, jobs: Sequence[Job], paths: list[str]) -> list[Answer]:
        names = [job.id for job in jobs]
        answer = self.link.ask(requests(jobs, model=paths), len(jobs) * MODEL_SECONDS)
        return [self._flagged(part, name) for part, name in zip(in_turns(answer, names), names, strict=True)]

    def _measured(self, job: Job, path: str, timeout_s: float) -> Answer:
        request = job.request(model=path)
        if job.runtime == "tensorrt":
            failure = self._build(request, path, Path(job.model))
            if failure is not None:
                return failure
        answer = self.link.ask(request, timeout_s + job.sustained_s)
        if isinstance(answer, Failure):
            return answer
        if isinstance(answer.get("trtexec"), dict) and answer["trtexec"].get("flags"):
            self.conditions["trtexec_flags"] = str(answer["trtexec"]["flags"])[:400]
        return self._flagged(jetson.completed(answer, sustained=job.sustained_s > 0), job.id)

    def _flagged(self, answer: Message | Failure, name: str) -> Answer:
        if isinstance(answer, Failure):
            return answer
        flags = answer.get("flags")
        return measurement(
            answer | {"flags": [*(flags if isinstance(flags, list) else []), *self.flags]}, name
        )

    def _build(self, request: Message, path: str, model: Path) -> Failure | None:
        """Build the engine, once while it and the runner stay; why that failed."""
        if (self.link.starts, path) in self.built and not self.files.one_by_one:
            return None
        built = self.link.ask(request | {"ask": "build", "types": jetson.number_types(model)}, _BUILD_S)
        if isinstance(built, Failure):
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
def ssh_runner(device: Device, ways: Ways, listener: Listener) -> Iterator[SshRunner]:
    """A runner on the device; nothing of it is left there afterwards, also after Ctrl-C.

    Raises:
        DeviceError: the device is not reached, or cannot run it; one line that says what to do.
    """
    runner = SshRunner(device, ways, listener)
    try:
        runner.link.start()
        yield runner
    finally:
        runner.close()


def check_ssh(device: Device, ways: Ways) -> Iterator[Step]:
    """What is reached and found on the way to a device."""
    notes: list[str] = []
    try:
        with ssh_runner(device, ways, Listener(note=notes.append)) as runner:
            started = runner.link.started
            assert started is not None
            yield Step("ssh", True, f"{destination(device)[0]} works without a password")
            yield Step("python", True, f"{device.python or 'python3'} {started.python}")
            yield Step("folder", True, f"{started.folder}, {show_bytes(started.free_bytes)} free")
            description = runner.about()
            if "numpy" in description.missing:
                yield Step("numpy", False, "not there", "run there: python3 -m pip install numpy")
            yield from described(description, device)
    except DeviceError as error:
        yield failed("ssh", error)
    for text in notes:
        yield Step("note", False, text)


TRANSPORT = Transport(
    connect=ssh_runner, check=lambda device, ways, listener: check_ssh(device, ways), tells_runtimes=True
)
