"""Devices that pull their jobs over HTTP: a browser, an iPhone, a Mac (`devices/PROTOCOL.md`)."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nasvit_edge import files
from nasvit_edge.device import Device
from nasvit_edge.errors import DeviceError, NasvitEdgeError
from nasvit_edge.listening import SILENT, Listener
from nasvit_edge.transport.answers import Answer, Description
from nasvit_edge.transport.exchange import Conflict, Exchange, described
from nasvit_edge.transport.job import MODEL_SECONDS, Job, one_by_one
from nasvit_edge.transport.publish import SCHEMA, judged, published
from nasvit_edge.transport.server import HttpRequest, Response, Server, json_response
from nasvit_edge.transport.ways import Step, Transport, Ways, failed

_CHECK_S = 120.0  # how long `check` waits for a device
_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".wasm": "application/wasm",
}
_PAGE = ("index.html", "style.css", "page.js", "runner.js")
_OPEN = {
    "browser": "scan it with the phone's camera, or open the address in any browser of the same network",
    "iphone": "scan it in the app, or type the address there",
    "mac": "run there: python3 devices/mac/runner.py ADDRESS",
}


@dataclass(frozen=True, slots=True)
class Routes:
    """From requests to the exchange. `page` has what a browser is served by name, nothing for other clients."""

    exchange: Exchange
    client: str
    page: Mapping[str, Path]

    async def __call__(self, request: HttpRequest) -> Response:
        """The answer; anything that is not the protocol's is 404 or 400."""
        try:
            return await self._answer(request)
        except Conflict as conflict:
            return Response(409, str(conflict).encode())

    async def _answer(self, request: HttpRequest) -> Response:
        session = request.query.get("session", "")
        match request.method, request.path:
            case "GET", path if path in self.page or path == "":
                return self._page(path)
            case "GET", path if path.startswith("file/"):
                content = self.exchange.file(path.removeprefix("file/"))
                return (
                    Response(200, content, "application/octet-stream", keep=True) if content else _missing()
                )
            case "POST", "hello":
                return self._hello(request)
            case "GET", "job":
                return await self._job(session)
            case "POST", "result":
                return await self._result(session, request)
            case "POST", "beat":
                self.exchange.beat(session)
                return Response(204)
            case _:
                return _missing()

    def _page(self, path: str) -> Response:
        if not self.page:
            return json_response(200, {"schema": SCHEMA, "client": self.client})
        source = self.page[path or "index.html"]
        return Response(200, source, _KINDS[source.suffix], keep=path.startswith("ort/"))

    def _hello(self, request: HttpRequest) -> Response:
        if self.exchange.done:
            return Response(410)
        description = described(request.body)
        if description is None:
            return Response(400, b"a description needs its about")
        return json_response(200, {"session": self.exchange.hello(description)})

    async def _job(self, session: str) -> Response:
        job = await self.exchange.job(session)
        if job is not None:
            return json_response(200, job)
        return Response(410 if self.exchange.done else 204)

    async def _result(self, session: str, request: HttpRequest) -> Response:
        if await self.exchange.result(session, request.body):
            return json_response(200, {"kept": True})
        return Response(503, b"not on disk yet: send it again", headers=(("Retry-After", "1"),))


def _missing() -> Response:
    return Response(404, b"not found")


class PullRunner:
    """The runner's side of a served exchange."""

    def __init__(
        self, device: Device, server: Server, exchange: Exchange, waiting: Callable[[], None]
    ) -> None:
        self.device, self.server, self.exchange, self.waiting = device, server, exchange, waiting

    def about(self) -> Description:
        """What the device says it is; waits for it at first."""
        return self.server.run(self.exchange.first(), self.waiting)

    def cores(self, threads: int) -> tuple[int, ...]:
        """The device decides."""
        del threads
        return ()

    def bring(self, models: Sequence[Path], listener: Listener) -> None:
        """Nothing: the device fetches a model when it is to be measured."""

    def measure(self, job: Job, timeout_s: float = MODEL_SECONDS) -> Answer:
        """A checked measurement, or why this model failed.

        Raises:
            DeviceError: the device was away for too long.
            NasvitEdgeError: it cannot run this kind of job at all.
        """
        lacking = lack(self.about(), job.runtime, job.threads)
        if lacking is not None:
            raise NasvitEdgeError(f"device {self.device.name!r}: {lacking}")
        request, sources = published(job)
        asking = self.exchange.ask(request, sources, timeout_s + job.sustained_s)
        answer = self.server.run(asking, self.waiting)
        return judged(answer, job)

    def together(self, jobs: Sequence[Job]) -> list[Answer]:
        """One after another."""
        return one_by_one(self, jobs)

    def fresh(self) -> None:
        """Nothing: the device loads every model anew in the program that runs there."""

    def close(self) -> None:
        """Tell the device that all is done, and stop serving."""
        try:
            self.server.run(self.exchange.finish())
        finally:
            self.server.stop()


def lack(description: Description, runtime: str, threads: int) -> str | None:
    """Why a device cannot run these jobs; None where it can."""
    known, conditions = description.runtimes, description.conditions
    if known and runtime not in known:
        hint = ""
        if runtime == "onnxruntime-webgpu":
            page = "" if conditions.get("secure") else " and a secure page: run the command with --tls"
            hint = f"; WebGPU needs a browser with a GPU that it may use{page}"
        return f"no runtime {runtime!r} there; it has {', '.join(sorted(known))}{hint}"
    if threads > 1 and conditions.get("isolated") is False:
        return f"{threads} threads need a secure page: run the command with --tls, or with --threads 1"
    return None


@contextlib.contextmanager
def pull_runner(
    device: Device, ways: Ways, listener: Listener, names: Iterable[str] = ()
) -> Iterator[PullRunner]:
    """Serves until the block ends; the address, its QR code and the fingerprint are noted at the start.

    Args:
        names: names that lead to this machine, by which a device may call it besides its address.

    Raises:
        DeviceError: an address or port that cannot be served on; onnxruntime-web's files cannot be had.
    """
    page = _served(ways, listener) if device.client == "browser" else {}
    exchange = Exchange(device.name, ways.wait_s, listener)
    address = address_of(device, ways)
    names = {*names, *_own_names(address)}
    tls, fingerprint = (None, "")
    if ways.tls:
        from nasvit_edge.transport.certificate import self_signed

        tls, fingerprint = self_signed({address, *names})
    server = Server(Routes(exchange, device.client, page), address, ways.port or device.port, names, tls)
    server.start()
    runner = PullRunner(device, server, exchange, ways.waiting)
    try:
        lines = invitation(server.url, device.client, fingerprint, _is_loopback(address))
        listener.note("\n".join(lines))  # in one piece: other devices' notes come between
        yield runner
    finally:
        runner.close()


def _served(ways: Ways, listener: Listener) -> dict[str, Path]:
    """The page and onnxruntime-web by the path they are asked for."""
    from nasvit_edge.transport.web_runtime import web_runtime

    folder = files.shipped("devices") / "browser"
    runtime = web_runtime(ways.web_runtime, listener)
    return {name: folder / name for name in _PAGE} | {f"ort/{name}": path for name, path in runtime.items()}


def invitation(url: str, client: str, fingerprint: str, loopback: bool = False) -> Iterator[str]:
    """What the person with the device is told."""
    from nasvit_edge.transport.qr import qr_text

    whole = f"{url}#sha256={fingerprint}" if fingerprint and client != "browser" else url
    yield qr_text(whole)
    yield whole
    yield _OPEN[client]
    if fingerprint:
        pairs = ":".join(fingerprint[i : i + 2] for i in range(0, len(fingerprint), 2)).upper()
        yield f"self-signed certificate, SHA-256 {pairs}"
        if client == "browser":
            yield "the browser will warn of it once: compare the fingerprint, then go on to the page"
    elif client == "browser" and not loopback:
        yield (
            "over plain HTTP browsers allow one thread, no WebGPU and a clock of 0.1 to 1 ms; "
            "--tls gives threads, WebGPU and a finer clock"
        )
    yield "waiting for the device; keep it plugged in, cool, and its screen on"


def address_of(device: Device, ways: Ways) -> str:
    """The address to serve on: the device's, else the chosen one, else that of the default route.

    Raises:
        DeviceError: it is no address and no name of one; there is no network.
    """
    interface = device.address or ways.interface
    if not interface:
        return _of_default_route()
    try:
        addresses = socket.getaddrinfo(interface, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise DeviceError(
            f"{interface!r} is no address of this machine to serve on", f"this one has {_of_default_route()}"
        ) from None
    address = str(addresses[0][4][0])
    if ipaddress.ip_address(address.split("%")[0]).is_unspecified:
        raise DeviceError(
            f"{interface!r} would serve on every network",
            f"give one address of this machine, as {_of_default_route()}",
        )
    return address


def _of_default_route() -> str:
    """The address that packets to elsewhere leave from; nothing is sent."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # reserved for documentation
        return str(probe.getsockname()[0])
    raise DeviceError(
        "this machine has no network that a device could come by", "give an address with --interface"
    )


def _own_names(address: str) -> set[str]:
    """What this machine is called where it serves."""
    if _is_loopback(address):
        return {"localhost"}
    name = socket.gethostname().lower()
    return {name, f"{name.split('.')[0]}.local"}


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address.split("%")[0]).is_loopback


def check_pull(device: Device, ways: Ways, listener: Listener = SILENT) -> Iterator[Step]:
    """Address, files and port here; then the device, once it comes."""
    try:
        yield Step("address", True, address_of(device, ways))
        if device.client == "browser":
            yield _runtime_step(ways)
        with pull_runner(device, replace(ways, wait_s=min(ways.wait_s, _CHECK_S)), listener) as runner:
            yield Step("serving", True, runner.server.url)
            yield from _device_steps(runner.about(), device)
    except NasvitEdgeError as error:
        yield failed("device", error)


def _runtime_step(ways: Ways) -> Step:
    from nasvit_edge.transport import web_runtime

    if ways.web_runtime is not None:
        return Step("files", True, f"onnxruntime-web in {ways.web_runtime}")
    place = f"in {web_runtime.kept_folder()}" if web_runtime.is_kept() else "fetched now (33 MB, once)"
    return Step("files", True, f"onnxruntime-web {web_runtime.VERSION}, {place}")


def _device_steps(description: Description, device: Device) -> Iterator[Step]:
    about = description.about
    yield Step("device", True, ", ".join(f"{about[k]}" for k in ("board", "soc", "os") if k in about))
    for runtime in device.runtimes:
        lacking = lack(description, runtime, 1)
        good = lacking is None or runtime != device.runtimes[0]  # the others are a bonus
        yield Step(runtime, good, description.runtimes.get(runtime, "not there"), lacking or "")
    for name, value in description.conditions.items():
        yield Step(name, True, str(value))


TRANSPORT = Transport(connect=pull_runner, check=check_pull)
