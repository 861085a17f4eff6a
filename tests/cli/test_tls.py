"""TLS files: what is wrong with them is said before anything is served."""

from __future__ import annotations

import ssl
from pathlib import Path

import httpx
import pytest

from glmserve.cli.tls import PASSWORD_VARIABLE, server_context
from glmserve.errors import OptionError
from support.certificates import encrypted, self_signed
from support.fake_server import serve
from support.live_server import HOST, listening

Pair = tuple[Path, Path]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def server(folder: Path) -> Pair:
    return self_signed(folder, "server")


@pytest.fixture(scope="module")
def client(folder: Path) -> Pair:
    return self_signed(folder, "client")


def test_without_a_certificate_there_is_no_tls() -> None:
    assert server_context(None, None, None) is None


def test_certificate_and_key_may_share_a_file(server: Pair, tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_text(server[0].read_text() + server[1].read_text())
    assert server_context(both, None, None)


def test_an_encrypted_key_needs_its_password(server: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, key = server[0], encrypted(server[1], "sesame")
    for wrong in (None, "", "mustard"):
        if wrong is not None:
            monkeypatch.setenv(PASSWORD_VARIABLE, wrong)
        with pytest.raises(OptionError, match=PASSWORD_VARIABLE):
            server_context(certificate, key, None)
    monkeypatch.setenv(PASSWORD_VARIABLE, "sesame")
    assert server_context(certificate, key, None)


def test_files_that_do_not_belong_together(server: Pair, client: Pair) -> None:
    with pytest.raises(OptionError, match="does not belong to the certificate"):
        server_context(server[0], client[1], None)


def test_files_that_are_something_else(server: Pair, tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    other.write_bytes(b"\x00\xffhello")
    for certificate, key in ((other, server[1]), (server[0], other), (server[0], None)):
        with pytest.raises(OptionError, match="PEM"):
            server_context(certificate, key, None)
    with pytest.raises(OptionError, match="no certificates in PEM"):
        server_context(*server, other)


def test_files_that_are_missing(server: Pair, tmp_path: Path) -> None:
    for arguments in ((tmp_path / "x", None, None), (server[0], tmp_path / "x", None)):
        with pytest.raises(OptionError, match="x: no such file"):
            server_context(*arguments)
    with pytest.raises(OptionError, match=r"--ssl-ca-certs .*: is a directory"):
        server_context(*server, tmp_path)


async def test_clients_without_a_certificate_are_turned_away(server: Pair, client: Pair) -> None:
    tls = server_context(*server, client[0])
    trusting = ssl.create_default_context(cafile=server[0])
    async with serve() as app, listening(app, tls) as port:
        url = f"https://{HOST}:{port}/v1/models"
        with pytest.raises((httpx.ConnectError, httpx.ReadError)):
            async with httpx.AsyncClient(verify=trusting) as stranger:
                await stranger.get(url)
        trusting.load_cert_chain(*client)
        async with httpx.AsyncClient(verify=trusting) as friend:
            assert (await friend.get(url)).status_code == 200


async def test_a_large_upload_over_tls_reads_its_413(server: Pair) -> None:
    trusting = ssl.create_default_context(cafile=server[0])
    tls = server_context(*server, None)
    async with (
        serve() as app,
        listening(app, tls) as port,
        httpx.AsyncClient(verify=trusting) as client,
    ):
        url = f"https://{HOST}:{port}/v1/completions"
        assert (await client.post(url, content=b" " * 20_000_000)).status_code == 413
