"""Devices: a folder each in `devices/`, described by its `device.toml`; or a user's own TOML file."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, field
from msgspec.structs import asdict, replace

from nasvit_edge import files, host_code, records
from nasvit_edge.errors import DeviceError
from nasvit_edge.latency.names import Precision
from nasvit_edge.records import Name, Plain, Strict
from nasvit_edge.runtimes import RuntimeName

_FEATURES = (
    *("sse4_1", "avx", "avx2", "fma", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8"),
    *("asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "sme"),
)
_FROM_ENVIRONMENT = ("address", "user", "key", "serial", "folder", "python", "tool")


class DeviceFile(Strict, frozen=True, kw_only=True):
    """What a `device.toml` says: how a target is reached (`transport`), which runtimes it has, and the program that runs on it.

    Attributes:
        name, about: what it is called, and what it is.
        transport: how it is reached.
        runtimes: which it has; the first is the default.
        program: for `local` and `ssh`, beside the file; the shipped one otherwise.
        client: who pulls jobs.
        address: `user@host`, an IP address, or a `Host` of `~/.ssh/config`; of what pulls jobs, the address to serve on.
        user, port, key: where `~/.ssh/config` does not say.
        serial: of adb, where several devices are connected.
        python: the interpreter there, such as that of a virtual environment; `python3` otherwise.
        folder: where our folder is made there; over ssh `~/.cache` (or `/tmp`) otherwise.
        tool: the path of `trtexec` there (ssh), or of `benchmark_model` here (adb).
        tool_sha256: what `tool` must be.
        threads, cores, precision: what is measured; the fastest cores unless you say which.
        power_mode: what `nvpmodel` should report; another one is said.
    """

    schema: Literal[2]
    name: Name
    about: str
    transport: Literal["local", "ssh", "adb", "pull"]
    runtimes: Annotated[tuple[RuntimeName, ...], Meta(min_length=1)]
    program: Plain = field(default="", name="runner")
    client: Literal["", "browser", "iphone", "mac"] = ""
    address: Plain = ""
    user: Plain = ""
    port: Annotated[int, Meta(ge=0, le=65535, description="a whole number from 0 to 65535")] = 0
    key: Plain = ""
    serial: Plain = ""
    folder: Plain = ""
    python: Plain = ""
    tool: Plain = ""
    tool_sha256: Plain = ""
    threads: Annotated[int, Meta(ge=1, le=256, description="a whole number from 1 to 256")] = 1
    precision: Precision = "fp32"
    cores: tuple[
        Annotated[
            int,
            Meta(ge=0, lt=1024, description="numbers of cores, from 0"),
        ],
        ...,
    ] = ()
    power_mode: Plain = ""

    def __post_init__(self) -> None:
        if self.transport == "pull" and not self.client:
            raise ValueError("key 'client' is missing; transport 'pull' needs it: browser, iphone or mac")


class Device(DeviceFile, frozen=True, kw_only=True):
    """A target, by its file.

    Attributes:
        path: the TOML file.
    """

    path: Path

    @property
    def runner(self) -> Path:
        """The program for `local` and `ssh`."""
        return (self.path.parent / self.program).resolve() if self.program else shipped_runner()

    @property
    def is_here(self) -> bool:
        """Whether this machine measures."""
        return self.transport == "local"

    def at(self, address: str | None, serial: str | None) -> Device:
        """At another address, or with another serial number; None leaves what the file says.

        Raises:
            RecordError: one that would be taken for an option.
        """
        changes = {key: text for key, text in (("address", address), ("serial", serial)) if text is not None}
        for key, text in changes.items():
            records.parse(Plain, text, f"--{key}")
        return replace(self, **changes)

    def program_sha256(self) -> str | None:
        """The SHA-256 of a program of one's own; None of the shipped one, which the tool's version tells.

        Raises:
            NasvitEdgeError: it cannot be read.
        """
        is_own = self.transport in ("local", "ssh") and not self.runner.is_relative_to(
            files.shipped("devices")
        )
        return files.sha256(self.runner) if is_own else None

    def with_secrets(self) -> Device:
        """With environment variables in place of `$NAME`; tables never see these values.

        Raises:
            DeviceError: a variable is not set.
        """
        return replace(self, **{key: self._value(key) for key in _FROM_ENVIRONMENT})

    def _value(self, key: str) -> str:
        text = str(getattr(self, key))
        if not text.startswith("$"):
            return text
        if not os.environ.get(text[1:]):
            instead = f", or give --{key}" if key in ("address", "serial") else ""
            if (key, self.transport) == ("tool", "adb"):
                instead = " (benchmark_model, from https://ai.google.dev/edge/litert/next/benchmark)"
            raise DeviceError(
                f"its {key} is in the environment variable {text[1:]!r}, which is not set",
                f"run: export {text[1:]}=...{instead}",
                device=self.name,
            )
        return os.environ[text[1:]]


def device_names() -> list[str]:
    """The user's devices and the shipped ones."""
    return sorted({*_user_devices(), *(path.parent.name for path in _shipped())})


def load_device(name: str) -> Device:
    """A device by name, or by the path of its TOML file; DeviceError lists what there is."""
    if name.endswith(".toml"):
        return parse_device(files.read_toml(Path(name), "device"), Path(name))
    if name not in device_names():
        raise DeviceError(
            f"unknown device {name!r}",
            f"there are {', '.join(device_names())}, or give the path of a device.toml",
        )
    return _named(name)


def known_device(name: object) -> Device:
    """A device by what a file calls it: one of the user's or a shipped one, and never a path.

    Raises:
        DeviceError: it is none of these.
    """
    if not isinstance(name, str) or name not in device_names():
        raise DeviceError(
            f"no device is called {str(name)[:64]!r} here", f"there are {', '.join(device_names())}"
        )
    return _named(name)


def _named(name: str) -> Device:
    path = _user_devices().get(name) or files.shipped("devices") / name / "device.toml"
    return parse_device(files.read_toml(path, "device"), path)


def user_folder() -> Path:
    """Where a user's devices are: a TOML file each, named as the device."""
    from platformdirs import user_config_path

    return user_config_path("nasvit-edge") / "devices"


def _user_devices() -> dict[str, Path]:
    return {path.stem: path for path in sorted(user_folder().glob("*.toml"))}


def _shipped() -> list[Path]:
    return sorted(files.shipped("devices").glob("*/device.toml"))


def shipped_runner() -> Path:
    """The program that measures on the host and on boards."""
    return files.shipped("devices") / "host" / "runner.py"


def parse_device(table: dict[str, object], path: Path) -> Device:
    """Check a `device.toml`; RecordError names file and key."""
    file = records.parse(DeviceFile, table, f"device {str(path)!r}")
    return Device(**asdict(file), path=path)


def cpu_model() -> str:
    """The name of this machine's processor."""
    machine = host_code.machine()
    if brand := machine.elsewhere.processor():
        return str(brand)
    text = machine.text_of("/proc/cpuinfo")
    named = [
        line.split(":", 1)[1].strip()
        for line in text.splitlines()
        if line.startswith(("model name", "Model"))
    ]
    return named[0] if named else machine.core_names(text) or platform.processor() or "unknown"


def cpu_features() -> str:
    """What this machine's processor has of what decides how runtimes compute; virtual machines give many processors one name."""
    return _features_in(host_code.machine().text_of("/proc/cpuinfo"))


def _features_in(cpuinfo: str) -> str:
    listed = [
        line.split(":", 1)[1] for line in cpuinfo.splitlines() if line.startswith(("flags", "Features"))
    ]
    has = set(listed[0].split()) if listed else set[str]()
    return " ".join(feature for feature in _FEATURES if feature in has)
