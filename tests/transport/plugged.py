"""A phone that is plugged in: what the tests of the adb transport share."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from pathlib import Path

import benchmark_model_stand_in as stand_in
import pytest
from adbd import Adbd, Server
from android_phone import furnish
from conftest import TINY, edited, one_line, require_program, shared, space_of

from nasvit_edge.device import Device
from nasvit_edge.errors import DeviceError
from nasvit_edge.listening import Listener
from nasvit_edge.profile.models import Item, Models
from nasvit_edge.transport.adb import adb_runner
from nasvit_edge.transport.job import Job
from nasvit_edge.transport.ways import Ways

pytest.importorskip("ai_edge_litert")
GENERATIONS = ("old", "percentiles", "litert")
TEXT = edited(  # few kinds of ops, each far longer than the tool's microsecond
    TINY,
    ("resolutions = [8, 12]", "resolutions = [48, 64]"),
    ("width = [8, 16]", "width = [16]"),
    ("kernel_size = [3, 5]", "kernel_size = [3]"),
    ("expand_ratio = [2, 3]", "expand_ratio = [2]"),
    ("width = [16, 24]", "width = [16]"),
)
SPACE = space_of(TEXT)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    require_program("adb")  # Debian: apt install adb
    with Server(tmp_path_factory.mktemp("adb")) as actual:
        yield actual


@pytest.fixture(scope="module")
def launches(tmp_path_factory):
    """The socket of the server behind the stand-in benchmark_model."""
    path = tmp_path_factory.mktemp("launches") / "socket"
    command = [sys.executable, stand_in.__file__, "--serve", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout.readline() == b"ready\n"
        yield str(path)
        process.kill()


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    ends = {"small": SPACE.smallest(), "large": SPACE.largest()}

    def make(folder):
        result = Models(SPACE, "litert", folder)
        for name, config in ends.items():
            result.path(Item(name, config=config))[0].rename(folder / f"{name}.tflite")

    folder = shared(tmp_path_factory, "adb-models", make)
    return {name: folder / f"{name}.tflite" for name in ends}


@pytest.fixture
def model(models):
    return models["large"]


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Phone:
    """A phone that is plugged in."""

    def __init__(self, tmp_path, adbd, generation):
        self.root, self.adbd = tmp_path / "phone", adbd
        self.state = self.root / "state"
        self.tool = stand_in.program(tmp_path / "bm tool", generation, sys.executable)
        self.notes = []

    def device(self, **changes):
        values = {
            "name": "android",
            "about": "test",
            "transport": "adb",
            "runtimes": ("litert", "litert-gpu"),
            "schema": 2,
            "path": Path("test.toml"),
            "serial": self.adbd.serial,
            "tool": str(self.tool),
        }
        return Device(**values | changes)

    def runner(self, *, wait_s=10.0, lock_clocks=False, **changes):
        ways = Ways(wait_s=wait_s, lock_clocks=lock_clocks)
        return adb_runner(self.device(**changes), ways, Listener(note=self.notes.append))

    def calls(self):
        path = self.state / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def left(self):
        """What is in the folder for temporary files."""
        return sorted(str(p.relative_to(self.root)) for p in (self.root / "data/local/tmp").rglob("*"))


@pytest.fixture
def phone_of(tmp_path, server, launches, monkeypatch):
    monkeypatch.setattr("nasvit_edge.transport.benchmark_tool._WARM_S", 0.02)  # clocks here do not sleep
    monkeypatch.setattr("nasvit_edge.transport.adb_client._SETTLE_S", 1.0)
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(server.port))
    monkeypatch.delenv("ANDROID_SERIAL", raising=False)
    opened = []

    def make(generation="percentiles", **options):
        root = tmp_path / "phone"
        furnish(root)
        environment = {stand_in.SOCKET: launches}
        adbd = Adbd(root, environment=environment, **options).__enter__()
        opened.append(adbd)
        return Phone(tmp_path, adbd, generation)

    yield make
    for adbd in opened:
        adbd.__exit__()
        server.adb("disconnect", adbd.serial)


@pytest.fixture
def phone(phone_of):
    return phone_of()


def job(model, **changes):
    values = {
        "id": "m",
        "model": str(model),
        "runtime": "litert",
        "threads": 1,
        "cores": (),
        "runs": 10,
        "seconds": 0.01,
        "most_seconds": 0.1,
        "precision": 0.02,
        "seed": 0,
    }
    return Job(**values | changes)


def processes(phone):
    """Launches that run, by their command lines."""
    until = time.monotonic() + 3
    while True:
        commands = [_read(path) for path in Path("/proc").glob("[0-9]*/cmdline")]
        mine = [c for c in commands if b"benchmark_model" in c and str(phone.root).encode() in c]
        if not mine or time.monotonic() > until:
            return mine
        time.sleep(0.05)


def refused(phone, match, **changes):
    with pytest.raises(DeviceError, match=match) as error, phone.runner(**changes):
        pass
    return one_line(error)


def _read(path):
    """A file of a process that may be gone."""
    try:
        return path.read_bytes()
    except OSError:
        return b""
