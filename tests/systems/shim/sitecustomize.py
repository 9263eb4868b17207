"""With this folder on PYTHONPATH, the package sees the system that NASVIT_EDGE_AS names (win32, darwin); so do its child processes.

torch, onnxruntime and the standard library themselves run on Linux below it: what the package imports of the latter are views, in
which the system's name is another one and what it does not have is not there. What no third party needs is gone for everyone.
Child processes start with this as well, as they inherit PYTHONPATH.
"""

from __future__ import annotations

import builtins
import contextlib
import multiprocessing
import os
import pathlib
import re
import signal
import stat
import sys
import types

AS = os.environ["NASVIT_EDGE_AS"]
WINDOWS = AS == "win32"
NO_MODULES = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog"}
GONE = ["fork", "forkpty", "killpg", "setsid", "nice", "getpriority", "setpriority"]
GONE += ["sched_getaffinity", "sched_setaffinity", "posix_fadvise"]
HIDDEN = {"os": set(GONE), "signal": set(), "select": set()}
if WINDOWS:  # what Python has there of these modules is a shorter list
    HIDDEN["os"] |= {"getuid", "geteuid", "getgid", "getpgrp", "getpgid", "setpgid", "getloadavg", "sysconf"}
    HIDDEN["os"] |= {"set_blocking", "mkfifo", "chown", "fchmod", "waitstatus", "uname", "pread", "pwrite"}
    HIDDEN["os"] |= {"O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK", "O_DIRECTORY", "WIFSIGNALED", "WTERMSIG"}
    HIDDEN["signal"] |= {
        "SIGKILL",
        "SIGHUP",
        "SIGALRM",
        "SIGCHLD",
        "SIGPIPE",
        "SIGUSR1",
        "alarm",
        "setitimer",
    }
    HIDDEN["select"] |= {"select", "poll", "epoll"}  # the first takes sockets only
NO_FOLDERS = ("/proc", "/sys", "/dev/shm", "/etc/os-release", "/usr/lib/os-release")
REFUSED = re.compile(r'[<>:"|?*\x00-\x1f]|[. ]$')  # what no name of a file has on Windows
OWN_FOLDERS = ("nasvit_edge", "devices/host")
ROOT = str(pathlib.Path(__file__).resolve().parents[3])
OWN = tuple(f"{ROOT}/{folder}/" for folder in OWN_FOLDERS)
real_import, real_stat, real_lstat = builtins.__import__, os.stat, os.lstat


class View(types.ModuleType):
    """A module without what is hidden of it, and with other values of what is said otherwise."""

    def __init__(self, module, hidden=(), said=None):
        super().__init__(module.__name__)
        self.__dict__.update(_module=module, _hidden=frozenset(hidden), _said=said or {})

    def __getattr__(self, name):
        if name in self._hidden:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r} on {AS}")
        return self._said[name] if name in self._said else getattr(self._module, name)

    def __setattr__(self, name, value):
        setattr(self._module, name, value)


def no_release():
    raise OSError("there is no os-release")


class Key(contextlib.nullcontext):
    """An opened key of the registry."""


def query(key, name):
    assert key == (1, r"HARDWARE\DESCRIPTION\System\CentralProcessor\0"), key
    assert name == "ProcessorNameString", name
    return "AMD Ryzen 9 7950X 16-Core Processor            ", 1


def views():
    """Module -> what the package gets for it."""
    import platform
    import select

    name = "Windows" if WINDOWS else "Darwin"
    said = {"system": lambda: name, "processor": lambda: "arm", "freedesktop_os_release": no_release}
    said |= {"machine": lambda: "AMD64" if WINDOWS else "arm64"}
    said |= {"mac_ver": lambda: ("", ("", "", ""), "") if WINDOWS else ("15.1", ("", "", ""), "arm64")}
    seen = {module.__name__: View(module, HIDDEN[module.__name__]) for module in (os, signal, select)}
    seen["sys"] = View(sys, said={"platform": AS})
    seen["platform"] = View(platform, said=said)
    if WINDOWS:
        registry = types.ModuleType("winreg")
        registry.HKEY_LOCAL_MACHINE = 1
        registry.OpenKey = lambda *where: Key(where)
        registry.QueryValueEx = query
        seen["winreg"] = registry
    return seen


VIEWS: dict[str, types.ModuleType] = {}


def is_own(frame_globals):
    path = (frame_globals or {}).get("__file__") or ""
    return str(pathlib.Path(path).absolute()).startswith(OWN)


def seen_import(name, globals=None, locals=None, fromlist=(), level=0):
    """The package's imports."""
    if level == 0 and (name in NO_MODULES or name in VIEWS) and is_own(globals):
        if name in NO_MODULES:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return VIEWS[name]
    return real_import(name, globals, locals, fromlist, level)


def is_below(frame):
    """psutil reads /proc, and multiprocessing /dev/shm, where they ask the system there."""
    while frame is not None:
        if re.search("/psutil/|/multiprocessing/", frame.f_code.co_filename):
            return True
        frame = frame.f_back
    return False


def absent(path):
    if not isinstance(path, str | bytes | os.PathLike):
        return False
    text = os.fsdecode(path)
    return any(text == folder or text.startswith(folder + "/") for folder in NO_FOLDERS)


def opened_here(path):
    """Whether this process has the file open or mapped."""
    inside["on"] = True
    try:
        sought = real_stat(path)
        for link in pathlib.Path("/proc/self/fd").iterdir():
            with contextlib.suppress(OSError):
                other = real_stat(link)
                if (other.st_dev, other.st_ino) == (sought.st_dev, sought.st_ino) and stat.S_ISREG(
                    other.st_mode
                ):
                    return True
        maps = pathlib.Path("/proc/self/maps").read_text(encoding="utf-8")
        return f" {os.path.realpath(path)}\n" in maps
    except OSError:
        return False
    finally:
        inside["on"] = False


inside = {"on": False}


def heard(event, arguments):
    """What the system would refuse."""
    if inside["on"] or event not in EVENTS:
        return
    frame = sys._getframe().f_back  # none where the interpreter itself opens its program
    if frame is None or is_below(frame):
        return
    for path in arguments[: EVENTS[event]]:
        if absent(path):
            raise FileNotFoundError(2, "No such file or directory", os.fsdecode(path))
        if not WINDOWS or not isinstance(path, str | bytes | os.PathLike):
            continue
        name = pathlib.PurePath(os.fsdecode(path)).name
        if REFUSED.search(name):
            raise OSError(22, "Invalid argument", os.fsdecode(path))
        unnamed = frame.f_code.co_name == "TemporaryFile"  # which Windows deletes when it is closed
        if event in ("os.rename", "os.remove") and not unnamed:
            folder = f"/proc/self/fd/{arguments[1]}" if event == "os.remove" and arguments[1] != -1 else ""
            if opened_here(pathlib.PurePath(folder, os.fsdecode(path))):
                raise PermissionError(13, "Permission denied", os.fsdecode(path))


EVENTS = {"open": 1, "os.listdir": 1, "os.scandir": 1, "os.mkdir": 1, "os.rename": 2, "os.remove": 1}


def without(function):
    def asked(path, *arguments, **options):
        if absent(path) and not inside["on"] and not is_below(sys._getframe(1)):
            raise FileNotFoundError(2, "No such file or directory", os.fsdecode(path))
        return function(path, *arguments, **options)

    return asked


multiprocessing.set_start_method("spawn")  # as on both systems
import subprocess  # noqa: E402, F401 - it takes what it needs of os and signal before that is gone
import tempfile  # noqa: E402, F401

for gone in GONE:
    if hasattr(os, gone):
        delattr(os, gone)
VIEWS.update(views())
builtins.__import__ = seen_import
os.stat, os.lstat = without(real_stat), without(real_lstat)
sys.addaudithook(heard)
