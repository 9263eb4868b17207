"""Headless Chromium, told what to do over its debugging pipe."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
    "--window-size=390,844",
    "--host-resolver-rules=MAP phone.test 127.0.0.1",
)


class Chromium:
    """A browser with one page, gone with its profile on leaving the block."""

    def __init__(self, program, *flags):
        self.folder = tempfile.mkdtemp(prefix="nasvit-edge-chromium-")
        self.buffer, self.number, self.session = b"", 0, None
        child_in, self.write = _pipe()
        self.read, child_out = _pipe()
        command = [program, *FLAGS, *flags, f"--user-data-dir={self.folder}", "about:blank"]
        with Path(os.devnull).open("r+b") as nothing:
            self.process = subprocess.Popen(
                command,
                stdin=nothing,
                stdout=nothing,
                stderr=nothing,
                start_new_session=True,
                pass_fds=(3, 4),
                preexec_fn=lambda: (os.dup2(child_in, 3), os.dup2(child_out, 4)),
            )
        for descriptor in (child_in, child_out):
            os.close(descriptor)

    def __enter__(self):
        return self

    def __exit__(self, *reason):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for descriptor in (self.write, self.read):
            os.close(descriptor)
        shutil.rmtree(self.folder, ignore_errors=True)

    def open(self, url):
        """Load a page."""
        if self.session is None:
            target = next(t for t in self.ask("Target.getTargets")["targetInfos"] if t["type"] == "page")
            session = self.ask("Target.attachToTarget", targetId=target["targetId"], flatten=True)
            self.session = session["sessionId"]
        self.ask("Page.navigate", url=url)

    def value(self, expression):
        """What a JavaScript expression gives in the page."""
        reply = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        return reply["result"].get("value")

    def until(self, expression, seconds=30):
        """Wait until an expression is true there."""
        end = time.monotonic() + seconds
        while not (value := self.value(expression)):
            assert time.monotonic() < end, f"{expression}: {self.value('document.body.innerText')}"
            time.sleep(0.1)
        return value

    def ask(self, method, **parameters):
        """One command of the DevTools protocol."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session is not None:
            message["sessionId"] = self.session
        os.write(self.write, json.dumps(message).encode() + b"\0")
        while True:
            answer = json.loads(self._message())
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                return answer["result"]

    def _message(self, seconds=30):
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.read], [], [], seconds)
            assert ready, "Chromium does not answer"
            part = os.read(self.read, 65536)
            assert part, "Chromium has ended"
            self.buffer += part
        message, _, self.buffer = self.buffer.partition(b"\0")
        return message


def _pipe():
    """A pipe whose ends are above 9, clear of those that the child uses."""
    ends = os.pipe()
    moved = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends)
    for end in ends:
        os.close(end)
    return moved
