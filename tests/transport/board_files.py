"""Files of /sys and /proc as a board has them, faults of its drivers included, for programs that a shell script starts."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path

from conftest import require_program

SOURCE = Path(__file__).with_suffix(".c")
FOLDERS = ("/sys/class/thermal", "/sys/devices/system/cpu", "/sys/devices/platform/soc", "/proc/device-tree")
FAULTS = ("EAGAIN", "EINVAL", "ENODATA", "EIO", "ENXIO", "EACCES", "HANG")
CPU, THERMAL = Path("/sys/devices/system/cpu"), Path("/sys/class/thermal")


class BoardFiles:
    """The files below a folder, and what a script sets so that a program finds them at their own paths.

    A file whose text is "!EAGAIN" answers that when it is read; `FAULTS` has what else there is.
    """

    def __init__(self, root: Path, files: Mapping[Path, str]) -> None:
        self.root = root / "board"
        for folder in FOLDERS:
            self.at(folder).mkdir(parents=True, exist_ok=True)
        self.library = root / "board_files.so"
        compiler = require_program("gcc")
        subprocess.run([compiler, "-shared", "-fPIC", "-o", self.library, SOURCE, "-ldl"], check=True)
        for path, text in files.items():
            self.put(path, text)

    def at(self, path: str | Path) -> Path:
        """Where the file is really."""
        return self.root / str(path).lstrip("/")

    def put(self, path: str | Path, text: str) -> None:
        """A file; a folder where the text is "!DIRECTORY"."""
        self.at(path).parent.mkdir(parents=True, exist_ok=True)
        if text == "!DIRECTORY":
            self.at(path).mkdir()
        else:
            self.at(path).write_text(text)

    def environment(self) -> dict[str, str]:
        """What a program of this machine needs set to be on the board."""
        folders = ":".join(FOLDERS)
        return {"LD_PRELOAD": str(self.library), "BOARD_ROOT": str(self.root), "BOARD_FOLDERS": folders}

    def script(self, interpreter: str) -> str:
        """The text of a script, with what puts it on the board."""
        set_ = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in self.environment().items())
        first, _, rest = interpreter.partition("\n")
        return f"{first}\n{set_}{rest}"


def orin(**temperatures: str) -> dict[Path, str]:
    """An Orin NX's thermal zones and clocks, as found with the GPU and the vision units gated."""
    zones = {"cpu": "47312", "gpu": "!EAGAIN", "cv0": "!EAGAIN", "cv1": "!EAGAIN", "cv2": "!EAGAIN"}
    zones |= {"soc0": "45968", "soc1": "46000", "soc2": "45500", "tj": "47312"} | temperatures
    files = {
        Path("/proc/device-tree/model"): "NVIDIA Jetson Orin NX Engineering Reference Developer Kit\0",
        Path(
            "/proc/device-tree/compatible"
        ): "nvidia,p3768-0000+p3767-0000\0nvidia,p3767-0000\0nvidia,tegra234\0",
    }
    for number, (name, text) in enumerate(zones.items()):
        files[THERMAL / f"thermal_zone{number}/type"] = f"{name}-thermal\n"
        files[THERMAL / f"thermal_zone{number}/temp"] = text
    for core in range(2):
        files[CPU / f"cpu{core}/cpufreq/scaling_cur_freq"] = "729600\n"
        files[CPU / f"cpu{core}/cpufreq/cpuinfo_max_freq"] = "1984000\n"
        files[CPU / f"cpu{core}/cpufreq/scaling_governor"] = "schedutil\n"
    return files
