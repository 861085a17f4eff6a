"""A server that is meant for others: TLS, several keys, several names."""

from __future__ import annotations

import re
import ssl
from pathlib import Path

import httpx
import openai
import pytest

from support.certificates import self_signed
from support.server_process import ServerProcess


def test_https_with_keys_from_a_file(tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path, "server")
    keys = tmp_path / "keys"
    keys.touch(mode=0o600)
    keys.write_text("# ours\nopen-sesame\nopen-barley\n")
    tls = ("--ssl-certfile", str(certificate), "--ssl-keyfile", str(key))
    names = ("--served-model-name", "mine", "org/alias")
    trusting = ssl.create_default_context(cafile=certificate)
    with (
        ServerProcess("--device", "null", *tls, *names, "--api-key-file", str(keys)) as server,
        httpx.Client(verify=trusting) as http,
    ):
        assert server.url.startswith("https://")
        assert "mine = org/alias" in server.text
        assert "Authorization: Bearer YOUR_KEY" in server.text
        assert http.get(f"{server.url}/health/ready").status_code == 200
        assert http.get(f"{server.url}/metrics").status_code == 401
        for secret in ("open-sesame", "open-barley"):
            sdk = openai.OpenAI(base_url=f"{server.url}/v1", api_key=secret, http_client=http)
            assert [model.id for model in sdk.models.list()] == ["mine", "org/alias"]
            assert sdk.models.retrieve("org/alias").id == "org/alias"
            answer = sdk.completions.create(model="org/alias", prompt="x", max_tokens=3)
            assert answer.choices[0].finish_reason
        sdk = openai.OpenAI(base_url=f"{server.url}/v1", api_key="simsim", http_client=http)
        with pytest.raises(openai.AuthenticationError):
            sdk.models.list()
        with pytest.raises(httpx.TransportError):
            http.get(re.sub("^https", "http", server.url))
        assert server.stop() == 0  # though a connection is still open
        assert "ERROR" not in server.text
        assert not re.search("sesame|barley|simsim|Traceback", server.text)


def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "glm.sock"
    with ServerProcess("--device", "null", "--uds", str(path), wait=False) as server:
        server.wait_until_announced()
        assert f"--unix-socket {path} http://localhost/v1/" in server.text
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path))) as client:
            body = {"prompt": "x", "max_tokens": 3}
            answer = client.post("http://localhost/v1/completions", json=body)
            assert answer.json()["usage"]["completion_tokens"] == 3
        assert server.stop() == 0
    assert not path.exists()
