"""A small HTTP(S) server for one device in an untrusted network.

asyncio gives whole requests a deadline (a slow sender cannot hold a connection), h11 parses strictly and bounds
headers; what is not addressed to the token by one of the server's own names is refused before its body is read.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ipaddress
import json
import secrets
import socket
import ssl
import threading
import urllib.parse
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import h11

from nasvit_edge.errors import DeviceError

BODY_BYTES = 4_000_000
HEADER_BYTES = 16_384
CONNECTIONS, PER_ADDRESS = 64, 16
HANDSHAKE_S, HEAD_S, BODY_S = 10.0, 10.0, 60.0
SLOWEST = 32_768  # bytes a second that a reader must take
_CHUNK = 65_536
_LOOK_S = 0.5
SECURITY = (
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),  # with the next two: threads in browsers
    ("Cross-Origin-Embedder-Policy", "require-corp"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval' blob:; worker-src 'self' blob:; "
        "style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'",
    ),
)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """What came in: `path` is what follows the token."""

    method: str
    path: str
    query: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Response:
    """What goes out; a `Path` as content is streamed."""

    status: int
    content: bytes | Path = b""
    kind: str = "text/plain; charset=utf-8"
    keep: bool = False  # the content never changes: caches may keep it
    headers: tuple[tuple[str, str], ...] = ()


def json_response(status: int, value: Any) -> Response:
    """A JSON body."""
    return Response(status, json.dumps(value).encode(), "application/json")


Handler = Callable[[HttpRequest], Awaitable[Response]]


class _Refused(Exception):  # noqa: N818 - an answer
    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.response = Response(status, text.encode())


@dataclass(slots=True)
class Server:
    """Serves `handler` at `SCHEME://ADDRESS:PORT/TOKEN/` from a thread of its own.

    Attributes:
        address: to bind to; `names` by which the server may be called besides it.
        tls: a server context, None for plain HTTP.
        token: new at every start, 192 bits.
    """

    handler: Handler
    address: str
    port: int = 0
    names: Iterable[str] = ()
    tls: ssl.SSLContext | None = None
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _listener: socket.socket = field(init=False)
    _thread: threading.Thread = field(init=False)
    _open: Counter[str] = field(default_factory=Counter)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def start(self) -> None:
        """Bind and serve; DeviceError where the address or port cannot be had."""
        try:
            family = socket.AF_INET6 if ":" in self.address else socket.AF_INET
            self._listener = socket.socket(
                family, socket.SOCK_STREAM, socket.IPPROTO_TCP
            )  # asyncio sets TCP_NODELAY
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._listener.bind((self.address, self.port))
        except OSError as error:
            self.loop.close()
            self._listener.close()
            where = f"{self.address}:{self.port}" if self.port else self.address
            raise DeviceError(
                f"cannot serve on {where!r}: {error.strerror}",
                "give an address of this machine with --interface and a free port with --port",
            ) from None
        self._listener.listen(CONNECTIONS)
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        self.names = {self.address, *self.names}
        self._thread = threading.Thread(target=self._serve, name="nasvit-edge-server", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """The address with the token; ends in '/'."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}/{self.token}/"

    def run(self, work: Coroutine[Any, Any, T], waiting: Callable[[], None] = lambda: None) -> T:
        """The result of a coroutine on the server's loop; Ctrl-C ends it, and what `waiting` raises.

        Raises:
            DeviceError: the server has ended.
        """
        future = asyncio.run_coroutine_threadsafe(work, self.loop)
        try:
            while True:
                with contextlib.suppress(TimeoutError):
                    return future.result(timeout=_LOOK_S)
                if future.done():  # it is the coroutine's own
                    return future.result(timeout=0)
                waiting()
                if not self._thread.is_alive():
                    raise DeviceError("the server for the device has ended", "run the same command again")
        except BaseException:
            future.cancel()
            raise

    def stop(self) -> None:
        """End every connection and free the port."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(timeout=10)

    def _serve(self) -> None:
        accepting = self.loop.create_task(self._accept())
        try:
            self.loop.run_forever()
        finally:
            self._listener.close()
            for task in (accepting, *self._tasks):
                task.cancel()
            self.loop.run_until_complete(
                asyncio.wait_for(asyncio.gather(accepting, *self._tasks, return_exceptions=True), 5)
            )
            self.loop.close()

    async def _accept(self) -> None:
        while True:
            try:
                connection, (peer, *_) = await self.loop.sock_accept(self._listener)
            except OSError:  # out of descriptors, or it was gone already
                await asyncio.sleep(0.1)
                continue
            if self._open.total() >= CONNECTIONS or self._open[peer] >= PER_ADDRESS:
                connection.close()
                continue
            self._open[peer] += 1
            task = self.loop.create_task(self._connection(connection, peer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _connection(self, connection: socket.socket, peer: str) -> None:
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        try:
            transport, _ = await self.loop.connect_accepted_socket(
                lambda: protocol,
                connection,
                ssl=self.tls,
                ssl_handshake_timeout=HANDSHAKE_S if self.tls else None,
                ssl_shutdown_timeout=1.0 if self.tls else None,
            )
            transport.set_write_buffer_limits(high=1, low=0)  # `drain` waits until all is handed on
            writer = asyncio.StreamWriter(transport, protocol, reader, self.loop)
            try:
                await _Talk(self, reader, writer).run()
                writer.close()
                async with asyncio.timeout(HANDSHAKE_S):
                    await writer.wait_closed()
            finally:
                transport.abort()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, h11.ProtocolError):
            pass  # the other side's fault, and it is gone
        finally:
            connection.close()
            self._open[peer] -= 1
            if not self._open[peer]:
                del self._open[peer]

    def admit(self, head: h11.Request) -> HttpRequest:
        """The request, if it is addressed to us by one of our names and knows the token."""
        if sum(len(name) + len(value) for name, value in head.headers) > HEADER_BYTES:
            raise _Refused(431, "headers are too large")
        hosts = [value.decode("latin-1") for name, value in head.headers if name == b"host"]
        if len(hosts) != 1 or not self._is_own(hosts[0]):
            raise _Refused(421, "not a name of this server")
        target = head.target.decode("latin-1")
        path, _, query = target.partition("?")
        token, slash, rest = path.removeprefix("/").partition("/")
        if not path.startswith("/") or not hmac.compare_digest(token.encode(), self.token.encode()):
            raise _Refused(404, "not found")
        method = head.method.decode("ascii")
        if method not in ("GET", "POST"):
            raise _Refused(405, "GET or POST")
        if not slash:
            raise _Refused(404, "the address ends in '/'")
        return HttpRequest(method, rest, dict(urllib.parse.parse_qsl(query, max_num_fields=8)))

    def _is_own(self, host: str) -> bool:
        """Whether a Host header names this server: a page of another origin mapped to our address is refused."""
        try:
            parts = urllib.parse.urlsplit(f"//{host}")
            name, port = parts.hostname or "", parts.port
        except ValueError:
            return False
        with contextlib.suppress(ValueError):
            name = str(ipaddress.ip_address(name))
        usual = 443 if self.tls else 80
        return name in self.names and (port or usual) == self.port and "@" not in host


class _Talk:
    """One connection: request after request, each with its deadlines."""

    def __init__(self, server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.server, self.reader, self.writer = server, reader, writer
        self.connection = h11.Connection(h11.SERVER, max_incomplete_event_size=HEADER_BYTES)

    async def run(self) -> None:
        while await self._one():
            self.connection.start_next_cycle()

    async def _one(self) -> bool:
        """Answer one request; whether another may follow."""
        try:
            async with asyncio.timeout(HEAD_S):
                head = await self._event()
            if not isinstance(head, h11.Request):
                return False
            request = self.server.admit(head)
            async with asyncio.timeout(BODY_S):
                body = await self._body(head)
            response = await self.server.handler(
                HttpRequest(request.method, request.path, request.query, body)
            )
        except _Refused as refused:
            await self._send(refused.response, last=True)
            return False
        except ValueError:  # of the query
            await self._send(Response(400, b"the query cannot be read"), last=True)
            return False
        except h11.RemoteProtocolError as error:
            if self.connection.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                await self._send(Response(error.error_status_hint, b"no HTTP"), last=True)
            return False
        await self._send(response)
        return self.connection.our_state is h11.DONE and self.connection.their_state is h11.DONE

    async def _event(self) -> Any:
        while True:
            event = self.connection.next_event()
            if event is not h11.NEED_DATA:
                return event
            if self.connection.they_are_waiting_for_100_continue:
                self.writer.write(
                    self.connection.send(h11.InformationalResponse(status_code=100, headers=[]))
                )
            self.connection.receive_data(await self.reader.read(_CHUNK))

    async def _body(self, head: h11.Request) -> bytes:
        length = next((value for name, value in head.headers if name == b"content-length"), b"0")
        if int(length) > BODY_BYTES:
            raise _Refused(413, f"a body is at most {BODY_BYTES} bytes")
        parts, size = [], 0
        while isinstance(event := await self._event(), h11.Data):
            size += len(event.data)
            if size > BODY_BYTES:  # chunked: it did not tell
                raise _Refused(413, f"a body is at most {BODY_BYTES} bytes")
            parts.append(bytes(event.data))
        if not isinstance(event, h11.EndOfMessage):
            raise _Refused(400, "the body ends early")
        return b"".join(parts)

    async def _send(self, response: Response, last: bool = False) -> None:
        size = (
            response.content.stat().st_size if isinstance(response.content, Path) else len(response.content)
        )
        cache = "private, max-age=31536000, immutable" if response.keep else "no-store"
        headers = [("Content-Type", response.kind), ("Cache-Control", cache), *SECURITY, *response.headers]
        if response.status != 204:
            headers.append(("Content-Length", str(size)))
        headers += [("Connection", "close")] if last else []
        head = h11.Response(status_code=response.status, headers=headers)
        async with asyncio.timeout(30 + size / SLOWEST):
            self.writer.write(self.connection.send(head) or b"")
            await self._content(response.content)
            self.writer.write(self.connection.send(h11.EndOfMessage()) or b"")
            await self.writer.drain()
        if last:
            await self._linger()

    async def _content(self, content: bytes | Path) -> None:
        if isinstance(content, bytes):
            if content:
                self.writer.write(self.connection.send(h11.Data(data=content)) or b"")
            return
        with content.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                self.writer.write(self.connection.send(h11.Data(data=chunk)) or b"")
                await self.writer.drain()

    async def _linger(self) -> None:
        """Take a little of what is still coming, so that the refusal arrives before the connection is reset."""
        with contextlib.suppress(OSError, TimeoutError, NotImplementedError):
            if self.server.tls is None:
                self.writer.write_eof()
            async with asyncio.timeout(1):
                for _ in range(2 * BODY_BYTES // _CHUNK):
                    if not await self.reader.read(_CHUNK):
                        return
