"""The page for people, as the server sends it. tests/browser has what a browser does with it."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from pathlib import Path

import httpx
import pytest

from glmserve.api.page.files import WEB, document
from glmserve.api.page.modules import needed_modules
from glmserve.config import ServerConfig
from support.fake_server import client_of, serve, tenants

APP = sorted([*(WEB / "app").rglob("*.js"), *(WEB / "docs").rglob("*.js")])
MANIFEST = json.loads((WEB / "vendor" / "manifest.json").read_text())
LARGEST = 150_000
"""Bytes of everything but formulas and the viewer of /docs, compressed."""


async def files_of(client: httpx.AsyncClient) -> list[str]:
    """The addresses that the page names, relative to it."""
    text = (await client.get("/")).text
    return re.findall(r'(?:href|src)="(page/[^"]+)"', text)


async def test_the_page_may_do_nothing_that_it_need_not(client: httpx.AsyncClient) -> None:
    response = await client.get("/")
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    policy = response.headers["content-security-policy"].split("; ")
    assert {"default-src 'self'", "script-src 'self'", "style-src 'self'"} <= set(policy)
    assert "require-trusted-types-for 'script'" in policy
    assert "unsafe" not in response.headers["content-security-policy"]
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["referrer-policy"] == "no-referrer"
    assert not re.findall(r"https?://", response.text)
    assert not re.findall(r"<script>|<style>|\son\w+=|style=", response.text)


async def test_every_file_that_it_names_is_there_for_ever(client: httpx.AsyncClient) -> None:
    names = await files_of(client)
    assert len(names) > 20
    for name in names:
        response = await client.get(f"/{name}")
        assert response.status_code == 200, name
        assert "immutable" in response.headers["cache-control"]
        assert "content-security-policy" in response.headers
        assert response.headers["content-type"].split(";")[0] in (
            *("text/javascript", "text/css", "image/svg+xml"),
        )


async def test_files_of_another_version_and_outside_of_the_page_are_not_there(
    client: httpx.AsyncClient,
) -> None:
    folder = (await files_of(client))[0].split("/")[1]
    for path in (
        "/page/0000000000000000/app/main.js",
        f"/page/{folder}/app/nothing.js",
        f"/page/{folder}/../config.py",
        f"/page/{folder}/%2e%2e/config.py",
        f"/page/{folder}//etc/passwd",
        f"/page/{folder}/index.html",
        f"/page/{folder}/",
    ):
        response = await client.get(path)
        assert response.status_code == 404, path
        assert response.json()["error"]["code"] == "unknown_url"


async def test_it_is_compressed_and_asked_for_once(client: httpx.AsyncClient) -> None:
    plain = await client.get("/", headers={"Accept-Encoding": "identity"})
    packed = await client.get("/", headers={"Accept-Encoding": "br;q=1, gzip;q=0.5"})
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.text == plain.text
    assert int(packed.headers["content-length"]) < int(plain.headers["content-length"])
    assert packed.headers["etag"] != plain.headers["etag"]
    for response in (plain, packed):
        encoding = response.request.headers["accept-encoding"]
        known = {"If-None-Match": f'"x", W/{response.headers["etag"]}', "Accept-Encoding": encoding}
        again = await client.get("/", headers=known)
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == response.headers["etag"]
    refused = await client.get("/", headers={"Accept-Encoding": "gzip;q=0"})
    assert "content-encoding" not in refused.headers


async def test_the_page_is_read_alone(client: httpx.AsyncClient) -> None:
    response = await client.post("/")
    assert response.status_code == 405
    assert response.json()["error"]["code"] == "method_not_supported"


async def test_head_is_answered(client: httpx.AsyncClient) -> None:
    for path in ("/", f"/{(await files_of(client))[0]}"):
        response = await client.head(path)
        assert response.status_code == 200
        assert int(response.headers["content-length"]) > 0


async def test_the_page_needs_no_key_and_opens_nothing_else() -> None:
    config = ServerConfig(served_model_name="fake", api_keys=tenants("key"))
    async with serve(config=config) as app, client_of(app) as client:
        for name in ("", *(await files_of(client))):
            assert (await client.get(f"/{name}")).status_code == 200
        for path in ("/v1/models", "/sampling_defaults", "/openapi.json", "/metrics", "/pages"):
            assert (await client.get(path)).status_code == 401, path


async def test_the_page_can_be_left_out() -> None:
    config = ServerConfig(served_model_name="fake", page=False)
    async with serve(config=config) as app, client_of(app) as client:
        assert (await client.get("/")).status_code == 404
        text = (await client.get("/docs")).text
        (name, *_) = re.findall(r'src="(page/[^"]+)"', text)
        assert (await client.get(f"/{name}")).status_code == 200


async def test_the_reference_is_one_document_that_asks_nobody_else(
    client: httpx.AsyncClient,
) -> None:
    response = await client.get("/docs")
    assert "default-src 'self'" in response.headers["content-security-policy"]
    assert "unsafe" not in response.headers["content-security-policy"]
    assert not re.findall(r"<script>|<style>|\son\w+=|style=", response.text)
    assert "Every route and every field" in response.text  # before any script has run
    for name in re.findall(r'(?:href|src)="(page/[^"]+)"', response.text):
        assert (await client.get(f"/{name}")).status_code == 200
    to_one = await client.get("/docs/")
    assert (to_one.status_code, to_one.headers["location"]) == (308, "../docs")


async def test_behind_a_prefix_the_page_is_a_folder() -> None:
    config = ServerConfig(served_model_name="fake", root_path="/a/glm")
    async with serve(config=config) as app, client_of(app) as client:
        response = await client.get("/a/glm", follow_redirects=True)
        assert response.url.path == "/a/glm/"
        (name, *_) = re.findall(r'src="(page/[^"]+)"', response.text)
        assert (await client.get(f"/a/glm/{name}")).status_code == 200


async def test_sampling_defaults(client: httpx.AsyncClient) -> None:
    values = (await client.get("/sampling_defaults")).json()
    assert (values["temperature"], values["top_p"], values["max_tokens"]) == (1.0, 1.0, None)


def test_every_text_has_both_languages_and_is_used() -> None:
    source = (WEB / "app" / "texts.js").read_text()
    texts = json.loads(source[source.index("{") : source.rindex("}") + 1])
    assert list(texts) == sorted(texts)
    paths = [WEB / "docs.html", *APP]
    code = "".join(path.read_text() for path in paths if path.name != "texts.js")
    for key, (english, chinese) in texts.items():
        assert english.strip(), key
        assert re.search(r"[\u4e00-\u9fff]", chinese), key
        assert set(re.findall(r"{\w+}", english)) == set(re.findall(r"{\w+}", chinese)), key
        beginning = key.partition("_")[0] + "_"
        assert f'"{key}"' in code or f"`{beginning}${{" in code, f"{key} is not used"
    used = re.findall(r'\bt\("(\w+)"', code) + re.findall(r'announce\("(\w+)"', code)
    assert set(used) <= texts.keys()


LATER = ("board/board", "guide", "notebook", "messages", "settings")


def test_modules_are_named_before_a_browser_meets_them() -> None:
    texts = {path.relative_to(WEB).as_posix(): path.read_text() for path in WEB.rglob("*.js")}
    first = needed_modules("app/main.js", texts.__getitem__)
    later = {n for view in LATER for n in needed_modules(f"app/parts/{view}.js", texts.__getitem__)}
    assert "vendor/preact/preact.js" in first
    assert not {f"app/parts/{view}.js" for view in LATER} & set(first)
    others = {name for name in texts if name.startswith("app/")} - later - set(first)
    assert others == set()
    text = document("index.html").body.decode()
    assert re.findall(r'"modulepreload" [^>]*href="page/\w+/([^"]+)"', text) == first


async def test_the_styles_of_the_page_are_one_file(client: httpx.AsyncClient) -> None:
    text = (await client.get("/")).text
    (name,) = re.findall(r'"stylesheet" href="([^"]+)"', text)
    styles = (await client.get(f"/{name}")).text
    for path in sorted((WEB / "style").glob("*.css")):
        assert (path.read_text() in styles) == (path.name != "docs.css")


def test_no_code_of_the_page_reads_text_as_markup() -> None:
    code = "".join(path.read_text() for path in APP)
    assert not re.findall(
        r"innerHTML|outerHTML|insertAdjacent|dangerously|\beval\(|document\.write", code
    )


def test_vendored_files_are_those_of_the_manifest() -> None:
    folder = WEB / "vendor"
    listed = {name: digest for entry in MANIFEST for name, digest in entry["files"].items()}
    there = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert there == {*listed, "manifest.json"}
    for name, digest in listed.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest, name


@pytest.mark.parametrize("entry", MANIFEST, ids=lambda entry: entry["package"])
def test_each_library_has_its_version_and_licence(entry: dict[str, object]) -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", str(entry["version"]))
    assert entry["licence"] in ("MIT", "Apache-2.0", "BSD-3-Clause")
    assert any("LICENSE" in name for name in entry["files"])  # type: ignore[attr-defined]


def test_the_page_is_small() -> None:
    paths = [p for p in WEB.rglob("*") if p.suffix in (".js", ".css", ".html", ".svg")]
    others = [WEB / "vendor" / "katex", WEB / "vendor" / "swagger"]
    chat = [p for p in paths if not any(map(p.is_relative_to, others))]
    assert sum(map(compressed, chat)) < LARGEST


def compressed(path: Path) -> int:
    return len(gzip.compress(path.read_bytes(), 9))
