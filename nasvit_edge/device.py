"""Devices: a folder each in `devices/`, described by its `device.toml`; or a user's own TOML file."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nasvit_edge import files
from nasvit_edge.errors import DeviceError
from nasvit_edge.latency import PRECISIONS, RUNTIMES

SCHEMA = 2
TRANSPORTS = ("local", "ssh", "adb", "pull")
_REQUIRED: dict[str, type] = {
    "schema": int,
    "name": str,
    "about": str,
    "transport": str,
    "runtimes": list,
}
_OPTIONAL: dict[str, type] = {
    "runner": str,
    "client": str,
    "address": str,
    "user": str,
    "port": int,
    "key": str,
    "serial": str,
    "folder": str,
    "python": str,
    "tool": str,
    "tool_sha256": str,
    "threads": int,
    "precision": str,
    "cores": list,
    "power_mode": str,
}
_FEATURES = (
    *("sse4_1", "avx", "avx2", "fma", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8"),
    *("asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "sme"),
)
_FROM_ENVIRONMENT = ("address", "user", "key", "serial", "folder", "python", "tool")


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A target: how it is reached (`transport`), which runtimes it has, and the program that runs on it.

    Attributes:
        runtimes: the first is the default.
        runner: the program for `local` and `ssh`; the shipped one unless given.
        client: who pulls jobs: `browser`, `iphone` or `mac`.
        address, user, port, key: of ssh, where `~/.ssh/config` does not say; for `pull` the address is the one to serve on.
        serial: of adb, where several devices are connected.
        folder: where files go on the device.
        python: the interpreter there. `tool`: path of `benchmark_model` here (adb) or of `trtexec` there (ssh).
        tool_sha256: what `tool` must be.
        threads, precision, cores: what is measured unless the command says otherwise; no cores: the fastest.
        power_mode: what `nvpmodel` should report; another one is said.
        path: the TOML file.
    """

    name: str
    about: str
    transport: str
    runtimes: tuple[str, ...]
    path: Path
    runner: Path = field(default=Path())
    client: str = ""
    address: str = ""
    user: str = ""
    port: int = 0
    key: str = ""
    serial: str = ""
    folder: str = ""
    python: str = ""
    tool: str = ""
    tool_sha256: str = ""
    threads: int = 1
    precision: str = "fp32"
    cores: tuple[int, ...] = ()
    power_mode: str = ""

    def at(self, address: str | None, serial: str | None) -> Device:
        """At another address, or with another serial number; None leaves what the file says.

        Raises:
            DeviceError: one that would be taken for an option.
        """
        for what, text in (("address", address), ("serial", serial)):
            if text is not None and not plain(text):
                raise DeviceError(
                    f"{what} {text!r} is none: it may not begin with '-' nor hold control characters"
                )
        return replace(
            self,
            address=self.address if address is None else address,
            serial=self.serial if serial is None else serial,
        )

    def program_sha256(self) -> str | None:
        """The SHA-256 of a program of one's own; None of the shipped one, which the tool's version tells.

        Raises:
            NasvitEdgeError: it cannot be read.
        """
        own = self.transport in ("local", "ssh") and not self.runner.is_relative_to(files.shipped("devices"))
        return files.sha256(self.runner) if own else None

    def with_secrets(self) -> Device:
        """With environment variables in place of `$NAME`; tables never see these values.

        Raises:
            DeviceError: a variable is not set.
        """
        values: dict[str, Any] = {key: self._value(key) for key in _FROM_ENVIRONMENT}
        return replace(self, **values)

    def _value(self, key: str) -> str:
        text = str(getattr(self, key))
        if not text.startswith("$"):
            return text
        if not os.environ.get(text[1:]):
            instead = f", or give --{key}" if key in ("address", "serial") else ""
            if (key, self.transport) == ("tool", "adb"):
                instead = " (benchmark_model, from https://ai.google.dev/edge/litert/next/benchmark)"
            raise DeviceError(
                f"device {self.name!r}: its {key} is in the environment variable {text[1:]!r}, which is not set; "
                f"run: export {text[1:]}=...{instead}"
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
            f"unknown device {name!r}; there are {', '.join(device_names())}, or give the path of a device.toml"
        )
    return _named(name)


def known_device(name: object) -> Device:
    """A device by what a file calls it: one of the user's or a shipped one, and never a path.

    Raises:
        DeviceError: it is none of these.
    """
    if not isinstance(name, str) or name not in device_names():
        raise DeviceError(
            f"no device is called {str(name)[:64]!r} here; there are {', '.join(device_names())}"
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


def parse_device(table: dict[str, Any], path: Path) -> Device:
    """Check a `device.toml`; DeviceError names file and key."""
    known = _REQUIRED | {key: kind for key, kind in _OPTIONAL.items() if key in table}
    files.checked_table(table, path, "device", known)
    what = _wrong(table)
    if what is not None:
        key, possible = what
        raise DeviceError(f"device {str(path)!r}: key {key!r} is {table[key]!r}; {possible}")
    values = {key: value for key, value in table.items() if key not in ("schema", "runner")}
    for key in ("runtimes", "cores"):
        values[key] = tuple(values.get(key, ()))
    runner = (path.parent / table["runner"]).resolve() if "runner" in table else shipped_runner()
    if table["transport"] == "pull" and "client" not in table:
        raise DeviceError(f"device {str(path)!r}: key 'client' is missing; transport 'pull' needs it")
    return Device(**values, runner=runner, path=path)


def _wrong(table: dict[str, Any]) -> tuple[str, str] | None:
    """The first key whose value cannot be, and what is possible."""
    listed = table["runtimes"]
    checks = [
        ("schema", table["schema"] == SCHEMA, f"this version reads schema {SCHEMA}"),
        (
            "name",
            files.is_name(table["name"]),
            "letters, digits, '.', '_' and '-' are possible",
        ),
        ("transport", table["transport"] in TRANSPORTS, f"there are {', '.join(TRANSPORTS)}"),
        ("runtimes", bool(listed) and all(r in RUNTIMES for r in listed), f"there are {', '.join(RUNTIMES)}"),
        ("precision", table.get("precision", "fp32") in PRECISIONS, f"there are {', '.join(PRECISIONS)}"),
        ("threads", 0 < table.get("threads", 1) <= 256, "1 to 256 are possible"),
        ("port", 0 <= table.get("port", 0) <= 65535, "0 to 65535 are possible"),
        (
            "cores",
            all(type(c) is int and 0 <= c < 1024 for c in table.get("cores", [])),
            "numbers of cores are possible",
        ),
        (
            "client",
            table.get("client", "") in ("", "browser", "iphone", "mac"),
            "there are browser, iphone, mac",
        ),
    ]
    checks += [
        (key, plain(table.get(key, "")), "it may not begin with '-' nor hold control characters")
        for key in (*_FROM_ENVIRONMENT, "tool_sha256", "power_mode")
    ]
    return next(((key, possible) for key, good, possible in checks if not good and key in table), None)


def plain(text: str) -> bool:
    """Whether a text can stand as an argument of its own: no option, no control characters."""
    return not text.startswith("-") and text.isprintable()


def cpu_model() -> str:
    """The name of this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith(("model name", "Model"))]
    return named[0] if named else platform.processor() or "unknown"


def cpu_features() -> str:
    """What this machine's processor has of what decides how runtimes compute; virtual machines give many processors one name."""
    try:
        return _features_in(Path("/proc/cpuinfo").read_text())
    except OSError:
        return ""


def _features_in(cpuinfo: str) -> str:
    listed = [
        line.split(":", 1)[1] for line in cpuinfo.splitlines() if line.startswith(("flags", "Features"))
    ]
    has = set(listed[0].split()) if listed else set[str]()
    return " ".join(feature for feature in _FEATURES if feature in has)
