"""An Arm board without the hardware: Debian for arm64 in a folder, its instructions computed by qemu, reached by its own sshd.

    PYTHONPATH=tests python tests/transport/arm_board.py       # as root: builds it (3 minutes, 400 MB), starts it, says how it is reached

What installs, runs, is pinned and is parsed there is real; what is timed means nothing, and the runner says so. The board has a
/proc/cpuinfo of its own (Cortex-A72) and no /sys: with this machine's, onnxruntime's library for processors crashes.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import platformdirs
from conftest import require_tool
from transport.sshd import answers, free_port, ssh_configured, wait_until

from nasvit_edge import files

MIRROR = "http://deb.debian.org/debian"
SUITE, PYTHON = "bookworm", "3.11"
PACKAGES = ("python3", "openssh-server")
WHEELS = ("numpy", "onnxruntime", "ai-edge-litert")
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64")
QEMU = Path(
    "/usr/lib/binfmt.d/qemu-aarch64.conf"
)  # of qemu-user-static: how the kernel knows programs for arm64
BINFMT = Path("/proc/sys/fs/binfmt_misc")
CORE = """processor\t: {number}
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd08
CPU revision\t: 3

"""
# In mounts and processes of its own, so that all of it is gone with it; what it writes is in memory.
START = """
mount -t proc proc "$1/proc" && mount --bind "$2/cpuinfo" "$1/proc/cpuinfo" || exit 1
for place in run tmp root; do mount -t tmpfs -o mode=755 tmpfs "$1/$place" || exit 1; done
mkdir "$1/run/sshd" && cp "$2/config" "$2/host" "$2/authorized" "$1/run/" && chmod 600 "$1/run/host" || exit 1
exec chroot "$1" /usr/sbin/sshd -D -e -f /run/config
"""


class ArmBoard:
    """The running board; `key` is what it accepts from user root."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.root, self.folder, self.port = root, folder, free_port()
        self.key, self.log = folder / "key", folder / "sshd.log"
        self.process: subprocess.Popen[bytes] | None = None
        for key in (self.key, folder / "host"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        shutil.copy(self.key.with_suffix(".pub"), folder / "authorized")
        cores = range(len(os.sched_getaffinity(0)))
        (folder / "cpuinfo").write_text("".join(CORE.format(number=number) for number in cores))
        (folder / "config").write_text(self._config())
        kind, public = (folder / "host.pub").read_text().split()[:2]
        (folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {kind} {public}\n")

    def _config(self) -> str:
        return textwrap.dedent(f"""
            ListenAddress 127.0.0.1
            Port {self.port}
            HostKey /run/host
            AuthorizedKeysFile /run/authorized
            PidFile none
            StrictModes no
            UsePAM no
            PasswordAuthentication no
            KbdInteractiveAuthentication no
            PrintMotd no
        """)

    def start(self) -> None:
        """Start it and wait until its sshd answers."""
        namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]
        command = [*namespaces, "sh", "-c", START, "sh", str(self.root), str(self.folder)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stderr=log, stdout=log, start_new_session=True)
        wait_until(lambda: answers(self.port), f"sshd of the board ({self.log})", 60)

    def stop(self) -> None:
        """Switch it off, with all that runs on it."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def device_file(self, path: Path) -> Path:
        """A device.toml for it."""
        keys = {
            "schema": 2,
            "name": "emulated-arm",
            "about": "an Arm board whose instructions qemu computes",
            "transport": "ssh",
            "runtimes": ["onnxruntime", "litert"],
            "runner": str(files.shipped("devices") / "host" / "runner.py"),
            "address": "127.0.0.1",
            "port": self.port,
            "user": "root",
            "key": str(self.key),
        }
        path.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items()))
        return path


@contextlib.contextmanager
def running_board() -> Iterator[ArmBoard]:
    """The board; the `ssh` that is found first knows its key. Skips where something that it needs is absent."""
    with programs_for_arm():
        root = debian()
        folder = Path(tempfile.mkdtemp(prefix="arm-", dir="/tmp"))
        board = ArmBoard(root, folder)
        config = folder / "ssh_config"
        config.write_text(f"UserKnownHostsFile {folder / 'known_hosts'}\nGlobalKnownHostsFile /dev/null\n")
        (folder / "bin").mkdir()
        try:
            with ssh_configured(folder / "bin" / "ssh", config):
                board.start()
                yield board
        finally:
            board.stop()
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def programs_for_arm() -> Iterator[None]:
    """Let the kernel start programs for arm64 by qemu; afterwards it is as it was."""
    require_tool("root, for an emulated board", os.geteuid() == 0)
    for program, package in (
        ("unshare", "util-linux"),
        ("ssh", "openssh-client"),
        ("debootstrap", "debootstrap"),
    ):
        require_tool(package, shutil.which(program) is not None)
    require_tool("qemu-user-static", QEMU.is_file() and shutil.which("qemu-aarch64-static") is not None)
    mounted, entry = (BINFMT / "register").exists(), BINFMT / "qemu-aarch64"
    mount = ["mount", "-t", "binfmt_misc", "binfmt_misc", str(BINFMT)]
    if not mounted:
        done = subprocess.run(mount, check=False, capture_output=True)
        require_tool("binfmt_misc (mount, as root)", done.returncode == 0)
    known = entry.exists()
    try:
        if not known:
            (BINFMT / "register").write_text(QEMU.read_text())
        yield
    finally:
        if not known:
            entry.write_text("-1")
        if not mounted:
            subprocess.run(["umount", str(BINFMT)], check=False)


def debian() -> Path:
    """The folder with the system and both runtimes; built once and kept in the cache, or in `NASVIT_EDGE_ARM_ROOT`."""
    kept = Path(platformdirs.user_cache_dir("nasvit-edge-tests")) / f"arm64-{SUITE}"
    root = Path(os.environ.get("NASVIT_EDGE_ARM_ROOT") or kept)
    ready = root / ".ready"
    if ready.exists():
        return root
    require_tool(f"Debian's packages ({MIRROR})", reached(f"{MIRROR}/dists/{SUITE}/InRelease"))
    shutil.rmtree(root, ignore_errors=True)
    root.parent.mkdir(parents=True, exist_ok=True)
    include = f"--include={','.join(PACKAGES)}"
    command = ["debootstrap", "--arch=arm64", "--variant=minbase", include, SUITE, str(root), MIRROR]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    install_wheels(root)
    shutil.rmtree(root / "var" / "cache" / "apt", ignore_errors=True)
    ready.touch()
    return root


def install_wheels(root: Path) -> None:
    """Both runtimes, of their wheels for this processor."""
    target = root / "usr" / "local" / "lib" / f"python{PYTHON}" / "dist-packages"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(target), "--no-compile"]
    command += ["--only-binary", ":all:", "--implementation", "cp", "--python-version", PYTHON]
    command += [part for platform in PLATFORMS for part in ("--platform", platform)]
    done = subprocess.run([*command, *WHEELS], check=False, capture_output=True, text=True)
    require_tool(
        f"a package index with {', '.join(WHEELS)} for aarch64 ({done.stderr[-200:]!r})", not done.returncode
    )


def reached(address: str) -> bool:
    """Whether an address answers."""
    with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=20) as answer:
        return bool(answer.read(1))
    return False


def main() -> None:
    """Start it and keep it until Ctrl-C."""
    with running_board() as board, contextlib.suppress(KeyboardInterrupt):
        path = board.device_file(board.folder / "device.toml")
        print(f"nasvit-edge devices check {path}    # with PATH={board.folder}/bin:$PATH")  # noqa: T201
        signal.pause()


if __name__ == "__main__":
    main()
