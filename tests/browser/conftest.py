"""The page in Debian's Chromium, driven by playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support.chat_page import ChatPage
from support.server_process import ServerProcess
from support.threaded_server import threaded_server


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A running browser."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the browser extra")
    path = os.environ.get("GLMSERVE_CHROMIUM") or shutil.which("chromium")
    if path is None:
        pytest.skip("there is no Chromium: apt-get install chromium, or set GLMSERVE_CHROMIUM")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Any) -> Iterator[Callable[..., ChatPage]]:
    """Call it with an address for a page of its own storage; options are those of a context.

    At the end, nothing may have failed in any page, and no other host may have been asked.
    """
    pages: list[ChatPage] = []

    def open_at(url: str, **options: Any) -> ChatPage:
        options = {"locale": "en-US", "viewport": {"width": 1200, "height": 800}, **options}
        page = ChatPage(chromium.new_context(**options), url)
        pages.append(page)
        return page

    yield open_at
    for page in pages:
        page.close()
    for page in pages:
        assert page.problems == []


@pytest.fixture(scope="session")
def glm_tiny() -> Iterator[ServerProcess]:
    """`glmserve serve` on the embedded model, in float32."""
    with ServerProcess("--dtype", "float32") as server:
        yield server


@pytest.fixture
def fake_page(open_page: Callable[..., ChatPage]) -> Iterator[Callable[..., ChatPage]]:
    """Call it with a runner, and further options of `serve`, for a page of such a server."""
    servers, pages = [], []

    def open_at(runner: Any = None, page: dict[str, Any] | None = None, **options: Any) -> ChatPage:
        server = threaded_server(runner=runner, **options)
        servers.append(server)
        pages.append(open_page(server.__enter__(), **(page or {})))
        return pages[-1]

    yield open_at
    for page in pages:
        page.close()
    for server in servers:
        server.__exit__(None, None, None)
