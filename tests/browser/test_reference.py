"""The reference at /docs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from glmserve.config import ServerConfig
from support.axe import violations
from support.chat_page import ChatPage
from support.fake_server import tenants
from support.scripted import ScriptedRunner

pytestmark = pytest.mark.browser

Opener = Callable[..., ChatPage]


def reference(chat: ChatPage) -> Any:
    page = chat.page
    page.goto(chat.url + "docs")
    return page


def test_a_route_is_shown_and_tried(fake_page: Opener) -> None:
    page = reference(fake_page(ScriptedRunner("an answer")))
    page.locator(".opblock-summary-path", has_text="/version").click()
    page.get_by_role("button", name="Execute").click()
    page.locator(".live-responses-table").get_by_text('"version"').wait_for()
    page.locator(".opblock-summary-path").first.click()
    page.get_by_text("temperature").first.wait_for()


def test_the_key_is_asked_for(fake_page: Opener) -> None:
    config = ServerConfig(served_model_name="fake", api_keys=tenants("secret"))
    chat = fake_page(ScriptedRunner("an answer"), config=config)
    page = reference(chat)
    page.get_by_label("API key").fill("secret")
    page.get_by_role("button", name="Use this key").click()
    page.locator(".opblock-summary-path", has_text="/version").click()
    page.get_by_role("button", name="Execute").click()
    page.locator(".live-responses-table").get_by_text('"version"').wait_for()


LOOKS: list[dict[str, Any]] = [
    {"locale": "en-US", "color_scheme": "light"},
    {"locale": "zh-CN", "color_scheme": "dark"},
    {"locale": "zh-CN", "color_scheme": "light", "viewport": {"width": 360, "height": 740}},
]


@pytest.mark.parametrize("look", LOOKS, ids=["light", "dark", "phone"])
def test_axe_finds_nothing_in_the_reference(fake_page: Opener, look: dict[str, Any]) -> None:
    page = reference(fake_page(ScriptedRunner("an answer"), page=look))
    page.locator(".opblock-summary-path").first.wait_for()
    assert violations(page) == []
    page.locator(".opblock-summary-path", has_text="/version").click()
    page.locator(".execute").click()
    page.locator(".live-responses-table").get_by_text('"version"').wait_for()
    assert violations(page) == []
    page.locator(".opblock-summary-path").first.click()
    page.get_by_text("temperature").first.wait_for()
    assert violations(page) == []
