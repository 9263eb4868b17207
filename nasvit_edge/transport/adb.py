"""The adb transport: models timed on an Android device by the user's `benchmark_model`, launch by launch."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from nasvit_edge import files
from nasvit_edge.device import Device
from nasvit_edge.errors import DeviceError, MeasurementError
from nasvit_edge.listening import SILENT, Listener
from nasvit_edge.transport.adb_client import Adb, AwayError, HungError
from nasvit_edge.transport.adb_files import BATCH, Folder, parent_folder
from nasvit_edge.transport.android import STATUS, Phone, clocks_script, state_of, state_script
from nasvit_edge.transport.answers import (
    Answer,
    Broken,
    Description,
    Failure,
    Measurement,
    measurement,
)
from nasvit_edge.transport.benchmark_tool import (
    GPU,
    LAUNCHES,
    NAME,
    CrashError,
    Ended,
    Tool,
    ToolError,
    ended,
    figures,
    launches_script,
)
from nasvit_edge.transport.job import MODEL_SECONDS, Job, one_by_one
from nasvit_edge.transport.outputs import android
from nasvit_edge.transport.outputs.delegation import OpTime, op_profile
from nasvit_edge.transport.ways import Step, Transport, Ways, failed

_ROOM = 0.8  # of the free space that models may take; more is copied one by one
_TRIES = 3  # of a model during which the device broke off or got hot
_PAUSES_S = (1.0, 2.0, 4.0, 8.0, 15.0)
_LEAVE_S = 15.0  # how long a device that is away is waited for at the end
_Result = TypeVar("_Result")


class AdbRunner:
    """Answers jobs one by one; waits for a device that was unplugged or is too hot."""

    def __init__(self, device: Device, ways: Ways, listener: Listener) -> None:
        self.device, self.ways, self.note = device, ways, listener.note
        self.tool = Tool.of(device)
        self.adb = Adb(device.serial, ways.wait_s, listener, waiting=ways.waiting)
        self.phone = Phone(self.adb)
        self.folder = Folder(self.adb, self.tool, parent_folder(device))
        self.one_by_one = False
        self.warned: set[str] = set()
        self.losses = 0  # of the device, since it measured a model
        self.hot = True  # until the device says that it is not

    def open(self) -> None:
        """Make the device that was found ready."""
        try:
            self._arrive()
        except (AwayError, HungError) as reason:
            self._come_back(reason)
        if self.device.cores and not self.phone.taskset:
            raise DeviceError(
                f"device {self.adb.serial!r} has no taskset: its cores cannot be chosen",
                "remove `cores` from device.toml",
            )
        if not self.phone.taskset:
            self.note(f"device {self.adb.serial!r} has no taskset: Android chooses the cores")

    def about(self) -> Description:
        """What the device is and how it is now."""
        return self._steady(self._about)

    def _about(self) -> Description:
        state = self.phone.state()
        extra = {"harness": "shell", "benchmark_model_sha256": self.tool.sha256}
        return Description(
            about=self.phone.about(),
            busy_cores=self.phone.busy_cores(),
            runtimes=dict.fromkeys(self.device.runtimes, self.tool.version),
            conditions={**self.phone.conditions(state), **extra},
        )

    def cores(self, threads: int) -> tuple[int, ...]:
        """The fastest cores, as the device's sysfs tells; none where it does not, or has no taskset."""
        return self.phone.cores(threads)

    def bring(self, models: Sequence[Path], listener: Listener) -> None:
        """Copy model files to the device; where it has no room for all, each when it is its turn."""
        named = {self.folder.name(path): path for path in models}
        new = {name: path for name, path in named.items() if name not in self.folder.there}
        room = self._steady(self.folder.free_bytes)
        if room is not None and sum(path.stat().st_size for path in new.values()) > _ROOM * room:
            self.one_by_one = True
            self.note(f"device {self.adb.serial!r} has {room >> 20} MB free: models are copied one by one")
            return
        names = sorted(new)
        for start in range(0, len(names), BATCH):
            batch = {name: new[name] for name in names[start : start + BATCH]}
            self._steady(partial(self.folder.push, batch))
            listener.progress(start + len(batch), len(names), "copying models to the device")

    def measure(self, job: Job, timeout_s: float = MODEL_SECONDS) -> Answer:
        """Several launches, each a sample; again where the device broke off or began to throttle.

        Raises:
            DeviceError: the device is away, or too hot, for longer than `wait_s`.
        """
        answer: Answer = Broken(id=job.id, error=f"the device broke off {_TRIES} times during this model")
        for attempt in range(_TRIES):
            try:
                answer = self._attempt(job, timeout_s + job.sustained_s)
            except AwayError as reason:
                self._come_back(reason)
                continue
            except HungError as reason:
                self._steady(self.folder.end_left_over)
                return Failure(id=job.id, error=str(reason))
            except CrashError as reason:
                return Broken(id=job.id, error=str(reason))
            except MeasurementError as reason:
                return Failure(id=job.id, error=str(reason))
            self.losses = 0
            self.hot = isinstance(answer, Measurement) and "throttled" in answer.flags
            if not self.hot or job.sustained_s or attempt == _TRIES - 1:
                return answer
        return answer

    def op_profile(self, job: Job, timeout_s: float = MODEL_SECONDS) -> list[OpTime]:
        """The ops of a model in the order they run, timed by the tool's own profiler.

        Raises:
            MeasurementError: the model failed, or the tool printed no profile.
        """

        def once() -> list[OpTime]:
            parts = self._launched(job, timeout_s, profile=True)
            first = ended(parts)[0]
            self.tool.launch(first.text, first.code, None, job.runtime)
            return op_profile(first.text)

        return self._steady(once)

    def together(self, jobs: Sequence[Job]) -> list[Answer]:
        """One after another."""
        return one_by_one(self, jobs)

    def fresh(self) -> None:
        """Every launch is a new process."""

    def close(self) -> None:
        """Restore settings and remove what was put on the device, also where it was away for a moment."""
        try:
            self._leave()
        except KeyboardInterrupt:  # impatience must not leave the device changed
            self._leave()
            raise

    def _leave(self) -> None:
        until = time.monotonic() + min(_LEAVE_S, self.ways.wait_s)
        while True:
            try:
                self.folder.end_left_over()
                self.phone.restore()
                self.folder.remove()
                return
            except DeviceError as reason:
                if time.monotonic() > until:
                    self.note(
                        f"{reason}: could not clean up; once it is back run: adb -s {shlex.quote(self.adb.serial)} "
                        f"shell 'svc power stayon false; rm -rf {self.folder.quoted}'"
                    )
                    return
                time.sleep(0.5)
                with contextlib.suppress(DeviceError):
                    self.adb.find()

    def _attempt(self, job: Job, timeout_s: float) -> Answer:
        """One measurement; waits first where the last one left the device hot."""
        if self.hot:
            self.phone.cool()
        parts = self._launched(job, timeout_s)
        ends = ended(parts)
        with tempfile.TemporaryDirectory(prefix="nasvit-edge-") as temporary:
            results = self._results(ends, Path(temporary))
        launches = [self.tool.launch(e.text, e.code, results.get(e.number), job.runtime) for e in ends]
        before, after = state_of(parts, "before"), state_of(parts, "after")
        flags = before.flags() | after.flags()
        flags |= {"coarse clock"} if any(launch.coarse for launch in launches) else set()
        flags |= {"unlocked clocks"} if self.phone.refused else set()
        self._warn(flags)
        answer = figures(launches, ends, job.sustained_s > 0) | {
            "runtime_version": self.tool.version,
            "flags": sorted(flags),
            "before": before.told(ends[0].clocks or before.clocks, job.cores),
            "after": after.told(ends[-1].clocks or after.clocks, job.cores),
        }
        return measurement(answer, job.id)

    def _launched(self, job: Job, timeout_s: float, profile: bool = False) -> dict[str, str]:
        """The output of the launches of a job, in sections."""
        name = self.folder.name(Path(job.model))
        if name not in self.folder.there:
            self.folder.push({name: Path(job.model)})
        mark = self.adb.mark
        command = [f"./{NAME}", *self.tool.arguments(job, name, "result", profile)]
        if job.cores and self.phone.taskset:
            command = ["taskset", f"{sum(1 << core for core in job.cores):x}", *command]
        script = "\n".join(
            [
                f"cd {self.folder.quoted} || exit 3",
                "rm -f result result-*",
                state_script(mark, "before"),
                launches_script(mark, command, clocks_script(), job.sustained_s, 1 if profile else LAUNCHES),
                state_script(mark, "after"),
            ]
        )
        try:
            _, output = self.adb.shell(script, timeout_s)
        finally:
            if self.one_by_one:
                with contextlib.suppress(DeviceError):
                    self.folder.drop(name)
        return android.sections(output, mark)

    def _results(self, ends: Sequence[Ended], folder: Path) -> dict[int, bytes]:
        """Launch -> its result file, where the tool writes one."""
        wrote = [e.number for e in ends if e.code == 0 and e.wrote]
        if not wrote:
            return {}
        self.adb.pull([f"{self.folder.path}/result-{number}" for number in wrote], folder)
        return {number: (folder / f"result-{number}").read_bytes() for number in wrote}

    def _warn(self, flags: set[str]) -> None:
        """Say once what speaks against the measurements."""
        todo = {
            "screen off": "its screen is off: some devices slow down then; switch it on",
            "low power mode": "its battery saver is on: switch it off",
        }
        for flag in sorted(flags & set(todo) - self.warned):
            self.note(f"device {self.adb.serial!r}: {todo[flag]}")
            self.warned.add(flag)

    def _arrive(self) -> None:
        """After every connection: what the device is, the tool and models on it, and what is set."""
        self.phone.look()
        self.folder.arrive()
        self.phone.prepare(self.ways.lock_clocks)

    def _come_back(self, reason: object) -> None:
        """Wait for the device, longer each time, and find again what is there."""
        self.losses += 1
        if self.losses > 1:
            self.ways.waiting()
            time.sleep(_PAUSES_S[min(self.losses - 2, len(_PAUSES_S) - 1)])
        for _ in range(_TRIES):
            self.adb.wait_back(reason)
            try:
                self._arrive()
                return
            except (AwayError, HungError) as again:
                reason = again
        raise DeviceError(
            f"device {self.adb.serial!r} breaks off again and again: {reason}", "try another cable or port"
        )

    def _steady(self, action: Callable[[], _Result]) -> _Result:
        """The action's result, done again after the device went away and came back."""
        for _ in range(_TRIES):
            try:
                return action()
            except (AwayError, HungError) as reason:
                self._come_back(reason)
        return action()


@contextlib.contextmanager
def adb_runner(device: Device, ways: Ways, listener: Listener) -> Iterator[AdbRunner]:
    """A runner; afterwards, also after Ctrl-C, the device is as it was."""
    runner = AdbRunner(device, ways, listener)
    runner.adb.find()
    with _alone(runner.adb.serial):
        try:
            runner.open()
            yield runner
        finally:
            runner.close()


@contextlib.contextmanager
def _alone(serial: str) -> Iterator[None]:
    """Hold the device against other nasvit-edge processes on this machine: they would disturb each other."""
    name = hashlib.sha256(serial.encode()).hexdigest()[:16]
    path = Path(tempfile.gettempdir()) / f"nasvit-edge-{os.getuid()}-adb-{name}.lock"
    busy = DeviceError(f"another nasvit-edge is measuring on device {serial!r} right now", "wait for it")
    with files.locked(path, busy):
        yield


def check_adb(device: Device, ways: Ways, listener: Listener = SILENT) -> Iterator[Step]:
    """adb, the device, its state, the tool and whether it runs there."""
    notes: list[str] = []
    listener = Listener(note=notes.append)
    adb = Adb(device.serial, 0.0, listener)
    reached = "adb"
    try:
        yield Step("adb", True, adb.version())
        reached = "device"
        adb.find()
    except DeviceError as error:
        yield failed(reached, error)
        return
    yield Step("device", True, f"{adb.serial} answers")
    phone = Phone(adb)
    try:
        yield from _phone_steps(phone)
        tool = Tool.of(device)
        yield Step("benchmark_model", True, f"{tool.path}, sha256 {tool.sha256}")
        with adb_runner(device, replace(ways, wait_s=_LEAVE_S), listener) as runner:
            yield Step("runs there", True, f"{runner.tool.version} in {runner.folder.path}")
            gpu = {"use_gpu", "require_full_delegation"} <= runner.tool.flags
            if GPU in device.runtimes:
                yield Step(GPU, gpu, "the tool has a GPU delegate" if gpu else "the tool has no GPU delegate")
            room = runner.folder.free_bytes()
            yield Step("free space", room is not None, "unknown" if room is None else f"{room >> 20} MB")
    except DeviceError as error:
        yield failed("benchmark_model" if isinstance(error, ToolError) else "device", error)


def _phone_steps(phone: Phone) -> Iterator[Step]:
    phone.look()
    about, state = phone.about(), phone.state()
    yield Step(
        "system", True, ", ".join(str(about[k]) for k in ("board", "soc", "architecture", "os") if k in about)
    )
    fast = phone.cores(1)
    cores = f"{phone.core_count} cores, the fastest {about.get('highest_clock_mhz', 'unknown')} MHz"
    yield Step("cores", True, f"{cores} ({'core ' + str(fast[0]) if fast else 'Android chooses'})")
    status = state.thermal.status
    words = "unknown" if status is None else f"{status} ({STATUS[status]})"
    yield Step("thermal status", not status, words, "let it cool down: it throttles" if status else "")
    off = state.awake is False
    yield Step(
        "screen", not off, "off" if off else "on", "switch it on: some devices slow down" if off else ""
    )
    level = "unknown" if state.battery.level is None else f"{state.battery.level} %"
    yield Step("battery", not state.saving, level, "switch the battery saver off" if state.saving else "")


TRANSPORT = Transport(connect=adb_runner, check=check_adb)
