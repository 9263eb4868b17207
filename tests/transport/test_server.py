"""The server that devices pull from: what is refused, and that nobody can hold it up."""

from __future__ import annotations

import hashlib
import http.client
import json
import socket
import ssl
import time

import pytest
from conftest import one_line
from hypothesis import given, settings
from hypothesis import strategies as st

from nasvit_edge.errors import DeviceError
from nasvit_edge.transport import server as module
from nasvit_edge.transport.certificate import self_signed
from nasvit_edge.transport.server import BODY_BYTES, Response, Server


async def echo(request):
    return Response(200, json.dumps([request.method, request.path, len(request.body)]).encode())


@pytest.fixture(scope="module")
def server():
    """A server in whose loop no exception may stay unhandled."""
    server_made, problems = Server(echo, "127.0.0.1", names=["phone.test"]), []
    server_made.loop.set_exception_handler(lambda loop, context: problems.append(context))
    server_made.start()
    yield server_made
    server_made.stop()
    assert problems == []


def ask(server, method="GET", path="", body=None, token=None, **headers):
    connection = http.client.HTTPConnection(server.address, server.port, timeout=10)
    try:
        connection.request(method, f"/{server.token if token is None else token}/{path}", body, headers)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def raw(server, content, seconds=10.0):
    """What comes back for these bytes until the server closes, and after how long it did."""
    begun = time.monotonic()
    with socket.create_connection((server.address, server.port), timeout=seconds) as connection:
        reply = b""
        try:
            connection.sendall(content)
            while part := connection.recv(65536):
                reply += part
        except (ConnectionError, TimeoutError):
            pass
    return reply, time.monotonic() - begun


def head(server, *lines, path=""):
    notes = [f"POST /{server.token}/{path} HTTP/1.1", f"Host: 127.0.0.1:{server.port}", *lines]
    return ("\r\n".join(notes) + "\r\n").encode()


def test_whoever_knows_the_token_is_answered(server):
    status, headers, body = ask(server, "POST", "a/b?c=d", b"12345")
    assert (status, json.loads(body)) == (200, ["POST", "a/b", 5])
    assert headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("token", ["", "x", "x" * 32, "..", "%2e%2e"])
def test_without_the_token_there_is_nothing(server, token):
    assert ask(server, token=token)[0] == 404
    assert ask(server, token=server.token[:-1])[0] == 404
    assert ask(server, token=server.token + "x")[0] == 404


def test_the_token_has_more_than_128_bits_and_is_new_every_time():
    tokens = {Server(echo, "127.0.0.1").token for _ in range(20)}
    assert len(tokens) == 20
    assert all(len(token) * 6 >= 128 for token in tokens)


@given(st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), max_size=60))
@settings(max_examples=60)
def test_no_other_path_leads_anywhere(server, path):
    line = f"GET /{path} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n\r\n".encode()
    reply, _ = raw(server, line)
    assert reply.split(b" ")[1] in (b"404", b"400")
    assert b"root:" not in reply


@pytest.mark.parametrize("name", ["phone.test", "127.0.0.1", "PHONE.test"])
def test_the_server_answers_to_its_names(server, name):
    assert ask(server, Host=f"{name}:{server.port}")[0] == 200


@pytest.mark.parametrize(
    "name", ["evil.test:{}", "127.0.0.2:{}", "127.0.0.1:1", "a@127.0.0.1:{}", "[::1", ""]
)
def test_a_page_of_another_origin_is_refused(server, name):
    """A name of an attacker that resolves to our address (DNS rebinding) has another Host."""
    assert ask(server, Host=name.format(server.port))[0] in (400, 421)


def test_two_hosts_are_one_too_many(server):
    reply, _ = raw(server, head(server, "Host: evil.test", "Content-Length: 0", ""))
    assert reply.split(b" ")[1] in (b"400", b"421")


def test_no_page_elsewhere_may_read_an_answer_and_threads_may_work_here(server):
    for _, headers, _ in (ask(server), ask(server, token="x"), ask(server, Host="evil.test")):
        assert not [name for name in headers if name.startswith("Access-Control")]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "unsafe-inline" not in headers["Content-Security-Policy"]


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "CONNECT", "HEAD"])
def test_other_methods_are_refused(server, method):
    assert ask(server, method)[0] in (404, 405)


def test_a_body_of_the_largest_size_is_taken_and_one_byte_more_is_not(server):
    assert ask(server, "POST", body=b"x" * BODY_BYTES)[0] == 200
    reply, seconds = raw(server, head(server, f"Content-Length: {BODY_BYTES + 1}", ""))
    assert b" 413 " in reply
    assert seconds < 5


def test_a_chunked_body_cannot_grow_beyond_the_limit(server):
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    reply, _ = raw(server, head(server, "Transfer-Encoding: chunked", "") + chunk * 70)
    assert b" 413 " in reply


@pytest.mark.parametrize("lines", [["X: " + "y" * 20_000], [f"X{i}: {'y' * 50}" for i in range(400)]])
def test_headers_have_a_limit(server, lines):
    reply, _ = raw(server, head(server, *lines, "Content-Length: 0", ""))
    assert reply.split(b" ")[1] in (b"400", b"431")


@pytest.mark.parametrize(
    "line",
    [
        "Content-Length: -1",
        "Content-Length: x",
        "Content-Length: 1\r\nContent-Length: 2",
        "Transfer-Encoding: odd",
        " folded",
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(server, line):
    reply, _ = raw(server, head(server, line, ""))
    assert reply == b"" or reply.split(b" ")[1] in (b"400", b"421", b"501")


@given(st.binary(max_size=300))
@settings(max_examples=60)
def test_bytes_of_any_kind_are_never_answered_with_content(server, content):
    with socket.create_connection((server.address, server.port), timeout=5) as connection:
        connection.sendall(content)
        connection.shutdown(socket.SHUT_WR)
        reply = b""
        try:
            while part := connection.recv(65536):
                reply += part
        except ConnectionError:
            pass
    assert not reply or reply.split(b" ")[1][:1] == b"4"


@given(st.binary(max_size=200), st.sampled_from(["result", "hello", "job?session=%ff", "?" + "a=b&" * 20]))
@settings(max_examples=40)
def test_bodies_and_queries_of_any_kind_get_an_answer(server, body, path):
    assert ask(server, "POST", path, body)[0] in (200, 400)


@pytest.mark.parametrize("started", [b"", b"GET / HT", "head", "body"])
def test_a_slow_sender_is_cut_off_and_others_are_served_meanwhile(server, monkeypatch, started):
    monkeypatch.setattr(module, "HEAD_S", 0.6)
    monkeypatch.setattr(module, "BODY_S", 0.6)
    requests = {"head": head(server, "X: 1"), "body": head(server, "Content-Length: 99", "") + b"x"}
    with socket.create_connection((server.address, server.port), timeout=10) as slow:
        slow.sendall(requests.get(started, started))
        begun, ended = time.monotonic(), False
        while not ended and time.monotonic() - begun < 5:
            assert ask(server)[0] == 200
            time.sleep(0.1)
            try:
                slow.send(b"y")
                slow.settimeout(0.05)
                ended = slow.recv(1000) == b""
            except TimeoutError:
                continue
            except OSError:
                ended = True
        assert ended
        assert time.monotonic() - begun < 3


def test_one_address_holds_a_bounded_number_of_connections(server):
    held = [socket.create_connection((server.address, server.port), timeout=5) for _ in range(60)]
    try:
        time.sleep(0.5)
        assert 0 < server._open.total() <= module.PER_ADDRESS
        assert len(server._tasks) <= module.PER_ADDRESS
    finally:
        for connection in held:
            connection.close()
    for _ in range(50):
        time.sleep(0.1)
        if not server._open:
            break
    assert ask(server)[0] == 200


def test_a_connection_serves_several_requests(server):
    connection = http.client.HTTPConnection(server.address, server.port, timeout=10)
    for _ in range(3):
        connection.request("GET", f"/{server.token}/x")
        assert connection.getresponse().read()
    connection.close()


def test_a_large_file_arrives_whole_over_tls_and_plain(tmp_path):
    content = bytes(range(256)) * 20_000
    (tmp_path / "model").write_bytes(content)

    async def file(request):
        return Response(200, tmp_path / "model", keep=True)

    for tls in (None, self_signed({"127.0.0.1"})[0]):
        served = Server(file, "127.0.0.1", tls=tls)
        served.start()
        try:
            context = ssl._create_unverified_context() if tls else None
            kind = http.client.HTTPSConnection if tls else http.client.HTTPConnection
            connection = kind("127.0.0.1", served.port, timeout=20, **({"context": context} if tls else {}))
            connection.request("GET", f"/{served.token}/x")
            answer = connection.getresponse()
            assert answer.read() == content
            assert "immutable" in answer.getheader("Cache-Control")
            connection.close()
        finally:
            served.stop()


def test_the_certificate_is_the_one_whose_fingerprint_is_shown():
    context, fingerprint = self_signed({"127.0.0.1", "phone.test", "::1"})
    served = Server(echo, "127.0.0.1", tls=context)
    served.start()
    try:
        client = ssl.create_default_context()
        client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
        plain = socket.create_connection(("127.0.0.1", served.port), timeout=5)
        with plain, client.wrap_socket(plain) as secure:
            assert hashlib.sha256(secure.getpeercert(True)).hexdigest() == fingerprint
        reply, _ = raw(served, b"GET / HTTP/1.1\r\n\r\n")
        assert b"200" not in reply
    finally:
        served.stop()


def test_a_client_that_never_ends_its_handshake_is_cut_off(monkeypatch):
    monkeypatch.setattr(module, "HANDSHAKE_S", 0.5)
    served = Server(echo, "127.0.0.1", tls=self_signed({"127.0.0.1"})[0])
    served.start()
    try:
        reply, seconds = raw(served, b"\x16\x03\x01")
        assert reply == b""
        assert seconds < 3
    finally:
        served.stop()


def test_only_the_chosen_address_is_served():
    served = Server(echo, "127.0.0.1")
    served.start()
    try:
        with pytest.raises(ConnectionError), socket.create_connection(("127.0.0.2", served.port), timeout=2):
            pass
    finally:
        served.stop()


def test_stopping_ends_connections_and_frees_the_port():
    served = Server(echo, "127.0.0.1")
    served.start()
    with socket.create_connection((served.address, served.port), timeout=5) as open_still:
        time.sleep(0.1)
        served.stop()
        assert open_still.recv(10) == b""
    assert not served._thread.is_alive()
    again = Server(echo, "127.0.0.1", served.port)
    again.start()
    again.stop()


@pytest.mark.parametrize("address", ["192.0.2.7", "no address"])
def test_an_address_that_is_not_ours_is_said_in_one_line(address):
    with pytest.raises(DeviceError) as caught:
        Server(echo, address).start()
    assert address in one_line(caught)


def test_a_port_that_is_taken_is_said_in_one_line(server):
    with pytest.raises(DeviceError) as caught:
        Server(echo, "127.0.0.1", server.port).start()
    assert str(server.port) in one_line(caught)
