"""What clients send and get stays between them and the server: none of it is logged."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import httpx
import pytest

from support.server_process import ServerProcess, worker_of

SECRET = "Rumpelstilzchen"
KEY = "sk-Rumpelstilzchen-key"
HEADERS = {"x-api-key": KEY, "X-Other": SECRET, "Referer": f"http://{SECRET}/"}
ALL_REQUESTS = (
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": SECRET}]}),
    ("/v1/chat/completions", {"messages": [{"role": SECRET, "content": SECRET}]}),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": SECRET}], SECRET: 1}),
    ("/v1/completions", {"prompt": SECRET, "stop": [SECRET], "cache_salt": SECRET, "user": SECRET}),
    ("/v1/completions", {"prompt": SECRET, "guided_regex": f"({SECRET}"}),
    ("/v1/completions", {"prompt": SECRET, "guided_choice": [SECRET]}),
    ("/v1/completions", {"prompt": SECRET, "guided_grammar": f"start: {SECRET}"}),
    ("/v1/completions", {"prompt": SECRET, "guided_json": {"$ref": f"#/{SECRET}"}}),
    ("/v1/responses", {"input": SECRET, "previous_response_id": SECRET}),
    ("/v1/messages", {"messages": [{"role": "user", "content": SECRET}], "max_tokens": 5}),
    ("/v1/embeddings", {"input": SECRET}),
    ("/tokenize", {"prompt": SECRET}),
    (f"/v1/{SECRET}?key={SECRET}", {}),
    (f"/v1/models/{SECRET}", {}),
)


@pytest.mark.slow
def test_nothing_of_a_client_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLMSERVE_API_KEY", KEY)
    with ServerProcess("--device", "null") as server:
        send_everything(server)
        os.kill(worker_of(server.pid), signal.SIGKILL)
        send_everything(server)
        worker = Path(f"/proc/{worker_of(server.pid)}/cmdline").read_bytes()
        assert server.stop() == 0
    assert "the worker" in server.text  # so something is
    assert SECRET.encode() not in worker
    assert SECRET not in server.text
    assert "Traceback" not in server.text


def send_everything(server: ServerProcess) -> None:
    with httpx.Client(base_url=server.url, headers=HEADERS, timeout=60) as client:
        for path, fields in ALL_REQUESTS:
            for stream in (False, True):
                body = {"model": "glm-tiny", **fields, **({"stream": True} if stream else {})}
                client.post(path, json=body)
        client.post("/v1/completions", json={"model": SECRET, "prompt": SECRET})
        client.post("/v1/completions", content=b'{"' + SECRET.encode() + b'": \xff\x00}')
        client.post("/v1/completions", headers={"x-api-key": SECRET + "2"}, json={})
        client.post("/v1/completions", headers={"X-Request-Id": "ok"}, content=SECRET)
    host, port = server.url.removeprefix("http://").split(":")
    for garbage in (f"GET /{SECRET} HTTP/9\r\n\r\n", f"{SECRET}\r\n\r\n", f"GET / {SECRET}\0"):
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(garbage.encode())
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(4096):
                pass
