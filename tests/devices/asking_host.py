"""A host that speaks devices/PROTOCOL.md and nothing else: jobs out, answers in, and troubles on demand."""

from __future__ import annotations

import contextlib
import http.server
import json
import ssl
import threading
import urllib.parse
from pathlib import Path

TOKEN = "t" * 32


class AskingHost:
    """Serves `jobs` one by one; `answers` holds what came back.

    `troubles` are taken from the front, one at each request that they fit: ("drop", PATH) closes the connection
    without an answer, ("drop after", PATH) once it was handled, (STATUS, PATH) answers so; "stop" is called after each.
    """

    def __init__(self, jobs, contents, tls=None):
        self.jobs, self.contents, self.answers, self.hellos, self.beats = list(jobs), contents, [], [], 0
        self.troubles, self.session, self.seen, self.lock = [], None, [], threading.Lock()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                outer.handle(self, b"")

            def do_POST(self):
                outer.handle(self, self.rfile.read(int(self.headers["Content-Length"])))

            def log_message(self, *arguments):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        scheme = "http"
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
            scheme = "https"
        self.url = f"{scheme}://127.0.0.1:{self.server.server_address[1]}/{TOKEN}"

    @contextlib.contextmanager
    def running(self):
        thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.server.shutdown()
            self.server.server_close()
            thread.join()

    def handle(self, request, body):
        with self.lock:
            parts = urllib.parse.urlsplit(request.path)
            name = parts.path.removeprefix(f"/{TOKEN}/").split("/")[0]
            self.seen.append(name)
            trouble = self.troubles.pop(0)[0] if self.troubles and self.troubles[0][1] == name else None
            if trouble == "drop":
                request.close_connection = True
                return
            if isinstance(trouble, int):
                status, content = trouble, b"{}"
            else:
                status, content = self.answer(request.command, parts, name, body)
            if trouble == "drop after":
                request.close_connection = True
                return
        request.send_response(status)
        if status != 204:
            request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        if status != 204:
            request.wfile.write(content)

    def answer(self, method, parts, name, body):
        if not parts.path.startswith(f"/{TOKEN}/"):
            return 404, b""
        session = urllib.parse.parse_qs(parts.query).get("session", [None])[0]
        if (method, name) == ("POST", "hello"):
            self.hellos.append(json.loads(body))
            self.session = f"session {len(self.hellos)}&"
            return 200, json.dumps({"session": self.session}).encode()
        if (method, name) == ("GET", "file"):
            return 200, self.contents[Path(parts.path).name]
        if session != self.session:
            return 409, b""
        if (method, name) == ("GET", "job"):
            return (200, json.dumps(self.jobs[0]).encode()) if self.jobs else (410, b"")
        if (method, name) == ("POST", "beat"):
            self.beats += 1
            return 204, b""
        if (method, name) == ("POST", "result"):
            answer = json.loads(body)
            if not self.jobs or answer.get("nonce") != self.jobs[0]["nonce"]:
                return 409, b""
            self.answers.append(answer)
            self.jobs.pop(0)
            return 200, b"{}"
        return 404, b""
