"""What an ssh that ended says on stderr, as one line: what it was, and what to do."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a device is not reached.

    Attributes:
        passes: whether waiting may help: it may be starting, or the network be away.
    """

    found: str
    todo: str
    passes: bool

    def __str__(self) -> str:
        return f"{self.found}; {self.todo}" if self.todo else self.found


_AWAY = "see that it is switched on, in this network, and runs an ssh server"
_KNOWN: tuple[tuple[str, str, str, bool], ...] = (
    (
        r"REMOTE HOST IDENTIFICATION HAS CHANGED|host key for .* has changed|Offending .* key in",
        "its host key is another one than the known one",
        "if the device was set up anew, run `ssh-keygen -R {known}` and then once `{ssh}`; else somebody may be in between",
        False,
    ),
    (
        r"Host key verification failed|host key is known for|REVOKED HOST KEY",
        "its host key is not known",
        "run once `{ssh}`, compare the fingerprint with the device's and answer yes",
        False,
    ),
    (
        r"Permission denied|Too many authentication failures|No supported authentication methods",
        "it does not accept the key of user {user}",
        "copy your key there with `ssh-copy-id {place}`, or name one by `key` in device.toml, until `{ssh}` works without a password",
        False,
    ),
    (
        r"Could not resolve hostname|Name or service not known",
        "its name {host!r} is not found in the network",
        "give its address: --address user@192.168.1.20, or a Host of ~/.ssh/config",
        True,
    ),
    (
        r"Connection refused",
        "it refuses the connection",
        "see that an ssh server runs there: sudo systemctl enable --now ssh",
        True,
    ),
    (
        r"timed out|No route to host|Network is unreachable|Host is down|not responding",
        "it does not answer",
        _AWAY,
        True,
    ),
    (
        r"Connection (?:to .* )?(?:closed|reset)|kex_exchange|Broken pipe|lost connection|banner exchange",
        "the connection was closed",
        _AWAY,
        True,
    ),
)


def trouble(lines: Sequence[str], host: str, user: str, ssh: str, known: str) -> Trouble:
    """The reason that ssh (exit code 255) gave; its last line where it is none of the known ones."""
    text = "\n".join(lines)
    place = ssh.removeprefix("ssh ")
    for pattern, what, todo, passes in _KNOWN:
        if re.search(pattern, text):
            values = {"host": host, "user": user, "ssh": ssh, "known": known, "place": place}
            return Trouble(what.format(**values), todo.format(**values), passes)
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    if not last:
        return Trouble("the connection was closed", _AWAY, True)
    return Trouble(f"ssh says {last[:200]!r}", f"see what `{ssh}` says", False)


def remote_trouble(code: int | None, lines: Sequence[str], python: str, ssh: str) -> Trouble:
    """Why the runner did not start on a device that was reached."""
    last = next((line.strip() for line in reversed(lines) if line.strip()), "nothing")[:200]
    if code in (126, 127):
        todo = f"install it there (sudo apt install python3), or give its path as `python` in device.toml; see `{ssh} {python} --version`"
        return Trouble(f"there is no python at {python!r}", todo, False)
    if "is too old" in last:
        return Trouble(
            f"its {last}", "give the path of Python 3.8 or later as `python` in device.toml", False
        )
    return Trouble(
        f"the runner did not start there (exit code {code}): {last!r}",
        f"see `{ssh} {python} --version`",
        False,
    )
