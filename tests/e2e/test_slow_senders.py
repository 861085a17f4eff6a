"""The limits of connections on a real server, with TLS and without."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress

import pytest

from support.certificates import self_signed
from support.misbehaving_clients import BODY, request
from support.open_resources import open_files, wait_for_open_files
from support.server_process import ServerProcess

LIMITS = "--header-timeout 1 --body-timeout 1 --idle-timeout 1 --write-timeout 1".split()
HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"


@pytest.fixture(scope="module", params=["http", "https"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    tls: list[str] = []
    if request.param == "https":
        certificate, key = self_signed(tmp_path_factory.mktemp("tls"), "server")
        tls = ["--ssl-certfile", str(certificate), "--ssl-keyfile", str(key)]
    with ServerProcess("--device", "null", *LIMITS, *tls) as server:
        yield server
        assert server.stop() == 0
        assert "ERROR" not in server.text


def connected(server: ServerProcess, window: int = 2**16) -> socket.socket:
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
    client.settimeout(30)
    client.connect(server.address)
    if not server.url.startswith("https"):
        return client
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(client)


@pytest.mark.parametrize(("begin", "status"), [(b"", b""), (b"GET /", b"408"), (HEAD, b"408")])
def test_who_stops(server: ServerProcess, begin: bytes, status: bytes) -> None:
    with connected(server) as client:
        client.sendall(begin)
        assert rest_of(client)[9:12] == status


@pytest.mark.parametrize("begin", [b"GET /", HEAD])
def test_who_trickles(server: ServerProcess, begin: bytes) -> None:
    with connected(server) as client:
        client.sendall(begin)
        client.settimeout(0.1)
        answer = b""
        while not answer:
            client.sendall(b"x")
            with suppress(TimeoutError):
                answer = client.recv(4096)
        assert answer[9:12] == b"408"


def rest_of(client: socket.socket) -> bytes:
    """All that comes until the server closes, politely or not."""
    answer = b""
    with suppress(ConnectionError):
        while more := client.recv(4096):
            answer += more
    return answer


def test_who_does_not_read(server: ServerProcess) -> None:
    files = open_files(server.pid)
    with connected(server, window=4096) as client:
        client.sendall(request_of_much())
        assert client.recv(12) == b"HTTP/1.1 200"
        server_files = open_files(server.pid)
        wait_for_open_files(server.pid, max(files, server_files - 1))


def test_half_a_handshake(server: ServerProcess) -> None:
    with socket.create_connection(server.address, timeout=30) as client:
        client.sendall(b"\x16\x03\x01\x02")
        rest_of(client)


def request_of_much() -> bytes:
    return request(BODY | {"n": 8, "max_tokens": 2000})
