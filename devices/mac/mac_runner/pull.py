"""Jobs over HTTP(S), until the host has all it wants; a host that was away is found again."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import re
import ssl
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any

from mac_runner.errors import Ended, Lost, Refused
from mac_runner.jobs import answered, coolest_of, tell
from mac_runner.machine import THERMAL, cool_down, describe
from mac_runner.timing import Open

_BEAT_S = 10.0
_LARGEST = 1 << 30


class Host:
    """The machine that asks. The certificate is checked by its hash before the token is sent."""

    def __init__(self, url: str, fingerprint: str | None) -> None:
        try:
            parts = urllib.parse.urlsplit(url)
            self.address, self.port, self.secure = parts.hostname or "", parts.port, parts.scheme == "https"
        except ValueError:
            parts = urllib.parse.urlsplit("")
        self.base = parts.path.rstrip("/")
        if parts.scheme not in ("http", "https") or not self.address or not self.base:
            raise Refused(f"{url!r} is no URL of a profile; give the one that nasvit-edge shows")
        digest = fingerprint or urllib.parse.parse_qs(parts.fragment).get("sha256", [""])[0]
        self.fingerprint = re.sub(r"[^0-9a-f]", "", digest.lower())
        if self.secure and not re.fullmatch("[0-9a-f]{64}", self.fingerprint):
            raise Refused("give --fingerprint with the SHA-256 that nasvit-edge shows beside the URL")
        self.connection: http.client.HTTPConnection | None = None

    def request(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        """Status and body of the answer; Lost where there is none."""
        content = None if body is None else json.dumps(body, allow_nan=False).encode()
        headers = {"Content-Type": "application/json"} if content else {}
        try:
            connection = self.connection or self._connected()
            connection.request(method, self.base + path, content, headers)
            answer = connection.getresponse()
            if int(answer.headers.get("Content-Length") or 0) > _LARGEST:
                raise Refused(f"the host sends {answer.headers['Content-Length']} bytes")
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise Lost(str(error) or type(error).__name__) from None

    def _connected(self) -> http.client.HTTPConnection:
        if not self.secure:
            self.connection = http.client.HTTPConnection(self.address, self.port, timeout=60)
            return self.connection
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # self-signed: known by its hash
        connection = http.client.HTTPSConnection(self.address, self.port, timeout=60, context=context)
        connection.connect()
        digest = hashlib.sha256(connection.sock.getpeercert(True) or b"").hexdigest()
        if digest != self.fingerprint:
            connection.close()
            raise Refused(f"the host's certificate is another one: its SHA-256 is {digest}")
        self.connection = connection
        return connection

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self.connection is not None:
            self.connection.close()
            self.connection = None


def pull(url: str, fingerprint: str | None, open_model: Open, patience_s: float) -> int:
    """Measure what the host asks until it has all; returns how many models were measured."""
    host, description = Host(url, fingerprint), describe()
    done, pause, seen = 0, 0.5, time.monotonic()
    session: str | None = None
    coolest = THERMAL[0]
    while True:
        try:
            session = session or hello(host, description)
            if session is not None:
                with beating(url, fingerprint, session):  # a job's time runs from when it is given
                    cool_down(coolest)
            job = None if session is None else next_job(host, session)
            seen, pause = time.monotonic(), 0.5
            if session is None or job == {}:
                session = None
                time.sleep(1)
            elif job is not None:
                coolest = coolest_of(job)
                with beating(url, fingerprint, session):
                    answer = answered(job, fetcher(host), open_model)
                session = deliver(host, session, answer, patience_s)
                done += "error" not in answer
                tell(answer)
        except Ended:
            return done
        except Lost as error:
            if time.monotonic() - seen > patience_s:
                raise Refused(
                    f"the host has not answered for {patience_s:g} s ({error}); run the same command again"
                ) from None
            print("connection lost, trying again", file=sys.stderr)
            session = None
            time.sleep(pause)
            pause = min(2 * pause, 15)


def hello(host: Host, description: dict[str, Any]) -> str | None:
    """A session; None while another device is measured."""
    status, body = host.request("POST", "/hello", description)
    if status == 200:
        try:
            return str(json.loads(body)["session"])
        except (ValueError, KeyError, TypeError, RecursionError):
            raise Refused("something else than nasvit-edge answers at this URL") from None
    if status == 409:
        return None
    if status == 410:
        raise Ended
    if status == 404:
        raise Refused("no profile runs at this URL; its token is of an earlier start: take the one shown now")
    if status >= 500:
        raise Lost(f"status {status}")
    raise Refused(f"the host refuses this machine (status {status}): {body[:200].decode(errors='replace')}")


def next_job(host: Host, session: str) -> dict[str, Any] | None:
    """A job; None where there is none yet; empty where the session is over."""
    status, body = host.request("GET", f"/job?session={urllib.parse.quote(session)}")
    if status == 410:
        raise Ended
    if status == 204:
        return None
    try:
        job = json.loads(body) if status == 200 else {}
    except (ValueError, RecursionError):
        raise Lost("its job cannot be read") from None
    return job if isinstance(job, dict) else {}


def fetcher(host: Host) -> Callable[[str], bytes]:
    """Files of the current job by their hash."""

    def fetch(digest: str) -> bytes:
        status, body = host.request("GET", f"/file/{digest}")
        if status != 200:
            raise Lost(f"file {digest} is answered with status {status}")
        return body

    return fetch


def deliver(host: Host, session: str, answer: dict[str, Any], patience_s: float) -> str | None:
    """Post an answer until it arrives; the session, or None where the host began another."""
    start, pause = time.monotonic(), 0.5
    while True:
        try:
            status, _ = host.request("POST", f"/result?session={urllib.parse.quote(session)}", answer)
            if status == 202 or status >= 500:  # not on disk yet
                raise Lost(f"status {status}")
            return session if status in (200, 409) else None
        except Lost:
            if time.monotonic() - start > patience_s:
                raise
            time.sleep(pause)
            pause = min(2 * pause, 15)


@contextlib.contextmanager
def beating(url: str, fingerprint: str | None, session: str) -> Iterator[None]:
    """Tell the host now and then that a long job is still at work."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(_BEAT_S):
            with contextlib.suppress(Lost, Refused):
                host = Host(url, fingerprint)
                host.request("POST", f"/beat?session={urllib.parse.quote(session)}", {})
                host.close()

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=1)
