"""A server that speaks the comment routes of GitHub and GitLab, and GitHub's of pull requests, for the tests of comment.py."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "secret-token"
GITHUB = re.compile(r"/repos/owner/name/issues/(?:(?P<request>\d+)/comments|comments/(?P<one>\d+))")
PULLS = re.compile(r"/repos/owner/name/(?:pulls|commits/(?P<sha>[^/]+)/pulls)")
GITLAB = re.compile(r"/projects/7/merge_requests/(?P<request>\d+)/notes(?:/(?P<one>\d+))?")
HEADERS = (("Authorization", f"Bearer {TOKEN}"), ("PRIVATE-TOKEN", TOKEN))


@dataclass
class State:
    """What the server has and does.

    Attributes:
        comments: of request 3, in order. most: comments a page, at most. denied: methods answered by 403.
        foreign: ids of comments that may not be edited. first: status codes of the next answers.
        meet: posts wait for each other here. answer: what every GET gives instead.
        limits: (status, headers, message) of the next answers to the methods that are `limited`.
        pulls: (number, head's label, head's commit, state) of pull requests. known: commits that this repository has.
    """

    url: str = ""
    comments: list[dict[str, Any]] = field(default_factory=list)
    most: int = 100
    denied: tuple[str, ...] = ()
    foreign: tuple[int, ...] = ()
    first: list[int] = field(default_factory=list)
    limits: list[tuple[int, dict[str, str], str]] = field(default_factory=list)
    limited: tuple[str, ...] = ("GET", "POST", "PATCH", "PUT", "DELETE")
    pulls: list[tuple[int, str, str, str]] = field(default_factory=list)
    known: tuple[str, ...] = ()
    moved: str = ""
    meet: threading.Barrier | None = None
    answer: bytes | None = None
    asked: list[tuple[str, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, body: str | None) -> int:
        """A comment; its id."""
        with self.lock:
            number = 1 + max((c["id"] for c in self.comments), default=100)
            self.comments.append({"id": number, "body": body})
            return number

    def bodies(self) -> list[str]:
        return [comment["body"] for comment in self.comments]

    def writes(self) -> list[str]:
        return [method for method, _ in self.asked if method != "GET"]


class _Handler(BaseHTTPRequestHandler):
    state: State

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._any()

    do_POST = do_PATCH = do_PUT = do_DELETE = do_GET  # noqa: N815

    def _any(self) -> None:
        address = urllib.parse.urlsplit(self.path)
        content = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        self.state.asked.append((self.command, self.path))
        if self.state.moved:
            self.send_response(307)
            self.send_header("Location", self.state.moved)
            self.end_headers()
            return
        if self.state.first:
            self._say(self.state.first.pop(0), {"message": "busy"})
            return
        if self.state.limits and self.command in self.state.limited:
            status, headers, message = self.state.limits.pop(0)
            self._say(status, {"message": message}, headers=headers)
            return
        known = GITHUB.fullmatch(address.path) or GITLAB.fullmatch(address.path)
        pulls = PULLS.fullmatch(address.path)
        if pulls is not None and self.command == "GET":
            self._pulls(pulls["sha"], dict(urllib.parse.parse_qsl(address.query)))
        elif known is None or known["request"] not in (None, "3"):
            self._say(404, {"message": "Not Found"})
        elif not any(self.headers.get(name) == value for name, value in HEADERS):
            self._say(401, {"message": "Bad credentials"})
        elif self.command in self.state.denied:
            self._say(403, {"message": "Resource not accessible by integration"})
        else:
            self._allowed(known["one"], dict(urllib.parse.parse_qsl(address.query)), content)

    def _pulls(self, sha: str | None, query: dict[str, str]) -> None:
        """By commit those whose head it is, where the repository has it; else those that the query asks for, as GitHub filters."""
        if sha is not None and sha not in self.state.known:
            self._say(422, {"message": f"No commit found for SHA: {sha}"})
            return
        self._say(
            200,
            [
                {"number": number, "state": state, "head": {"label": label, "sha": at}}
                for number, label, at, state in self.state.pulls
                if sha in (None, at)
                and query.get("head") in (None, label)
                and query.get("state", "all") in ("all", state)
            ],
        )

    def _allowed(self, one: str | None, query: dict[str, str], content: dict[str, Any]) -> None:
        if self.command == "GET":
            size = min(int(query.get("per_page", 30)), self.state.most)
            start = (int(query.get("page", 1)) - 1) * size
            self._say(200, self.state.comments[start : start + size], self.state.answer)
        elif self.command == "POST":
            if self.state.meet is not None:
                self.state.meet.wait(30)
            self._say(201, {"id": self.state.add(content["body"])})
        else:
            self._change(int(one or 0), content)

    def _change(self, number: int, content: dict[str, Any]) -> None:
        with self.state.lock:
            matching = [comment for comment in self.state.comments if comment["id"] == number]
            allowed = number not in self.state.foreign
            if matching and allowed and self.command == "DELETE":
                self.state.comments.remove(matching[0])
            elif matching and allowed:
                matching[0]["body"] = content["body"]
        self._say(
            404 if not matching else 200 if allowed else 403, matching[0] if matching else {"message": "no"}
        )

    def _say(
        self, status: int, content: Any, raw: bytes | None = None, headers: dict[str, str] | None = None
    ) -> None:
        text = json.dumps(content).encode() if raw is None else raw
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


@contextlib.contextmanager
def serving() -> Iterator[State]:
    """A server of its own."""
    state = State()
    handler = type("Handler", (_Handler,), {"state": state})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
