"""Our folder on an Android device: the tool and models in it, seen to be whole, and removed at the end."""

from __future__ import annotations

import hashlib
import shlex
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nasvit_edge.device import Device
from nasvit_edge.errors import DeviceError, MeasurementError
from nasvit_edge.transport.adb_client import Adb, AwayError
from nasvit_edge.transport.benchmark_tool import NAME, Tool
from nasvit_edge.transport.outputs import android

FOLDER = "/data/local/tmp/nasvit-edge"
BATCH = 16  # files a push
_HASHED = 64  # files a command


def parent_folder(device: Device) -> str:
    """The device's folder; DeviceError where files must not go there."""
    folder = (device.folder or FOLDER).rstrip("/")
    if not folder.startswith("/") or ".." in folder.split("/"):
        raise DeviceError(
            f"folder {device.folder!r} is no absolute path below '/'",
            f"{FOLDER!r} serves on Android",
            device=device.name,
        )
    return folder


@dataclass(slots=True)
class Folder:
    """`run` inside the device's folder: ours alone, so that removing it removes nothing else.

    Attributes:
        there: names of models that were copied and seen to be whole.
        blind: the device has no sha256sum (before Android 6): what adb said was copied is believed.
    """

    adb: Adb
    tool: Tool
    parent: str
    there: set[str] = field(default_factory=set)
    blind: bool = False
    names: dict[Path, str] = field(default_factory=dict)

    @property
    def path(self) -> str:
        """The folder."""
        return f"{self.parent}/run"

    @property
    def quoted(self) -> str:
        """The folder, for a command line."""
        return shlex.quote(self.path)

    def arrive(self) -> None:
        """Make it, bring the tool, and see which models are there; after every connection."""
        code, output = self.adb.shell(f"mkdir -p {self.quoted} && cd {self.quoted} && rm -f result result-*")
        if code:
            raise DeviceError(
                f"device {self.adb.serial!r} cannot use folder {self.path!r}: {output.strip()[:120]!r}",
                "give another `folder` in device.toml",
            )
        self.end_left_over()
        self.blind = self.adb.shell("command -v sha256sum")[0] != 0
        self.there &= set() if self.blind else self._whole(self.there)
        self._bring_tool()

    def _bring_tool(self) -> None:
        if self.blind or self._hashes([NAME]).get(NAME) != self.tool.sha256:
            self._copy({NAME: self.tool.path})
        if not self.blind and self._hashes([NAME]).get(NAME) != self.tool.sha256:
            raise AwayError(f"device {self.adb.serial!r} broke off while benchmark_model was copied")
        code, usage = self.adb.shell(f"cd {self.quoted} && chmod 755 {NAME} && ./{NAME} --help")
        self.tool.take_usage(usage, code)

    def push(self, models: Mapping[str, Path]) -> None:
        """Copy models under their names there; AwayError where they did not arrive whole."""
        self._copy(models)
        whole = set(models) if self.blind else self._whole(models)
        if whole != set(models):
            raise AwayError(f"device {self.adb.serial!r} broke off while models were copied")
        self.there |= whole

    def _copy(self, files: Mapping[str, Path]) -> None:
        with tempfile.TemporaryDirectory(prefix="nasvit-edge-") as temporary:
            staged = [Path(temporary) / name for name in files]
            for link, path in zip(staged, files.values(), strict=True):
                link.symlink_to(path.resolve())
            self.adb.push(staged, f"{self.path}/")

    def _whole(self, names: Iterable[str]) -> set[str]:
        """Those that are there with the content that their names say."""
        intact: set[str] = set()
        ordered = sorted(names)
        for start in range(0, len(ordered), _HASHED):
            digests = self._hashes(ordered[start : start + _HASHED])
            intact |= {name for name, digest in digests.items() if digest.startswith(name.split(".")[0])}
        return intact

    def _hashes(self, names: Iterable[str]) -> dict[str, str]:
        _, output = self.adb.shell(
            f"cd {self.quoted} && sha256sum {' '.join(map(shlex.quote, names))}", 300.0
        )
        return android.hashes(output)

    def name(self, model: Path) -> str:
        """What a model is called on the device: nothing of its name here.

        Raises:
            MeasurementError: it cannot be read.
        """
        if model not in self.names:
            try:
                digest = hashlib.sha256(model.read_bytes()).hexdigest()
            except OSError as error:
                raise MeasurementError(f"model {str(model)!r}: {error.strerror}") from None
            self.names[model] = f"{digest[:32]}.tflite"
        return self.names[model]

    def free_bytes(self) -> int | None:
        """What is left on the device; None where it does not say."""
        return android.free_bytes(self.adb.shell(f"df -k {self.quoted}")[1])

    def drop(self, name: str) -> None:
        """Remove a model."""
        self.there.discard(name)
        self.adb.shell(f"rm -f {self.quoted}/{shlex.quote(name)}")

    def end_left_over(self) -> None:
        """Kill a launch that outlived its shell: only our own, by its id and name."""
        self.adb.shell(
            f"cd {self.quoted} && p=$(cat pid) && grep -q {NAME} /proc/$p/cmdline && kill -9 $p; rm -f {self.quoted}/pid"
        )

    def remove(self) -> None:
        """Remove it, and the folder around it where nothing else is in that."""
        self.adb.shell(f"cd / && rm -rf {self.quoted}; rmdir {shlex.quote(self.parent)}")
