"""axe finds nothing in any state, in both languages and themes; everything works by keyboard."""

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
ANSWER = (
    "# Title\n\nText with `code` and [a link](https://example.org).\n\n```python\n# note\nx = 1\n"
    "```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n- [x] done\n\n> quote\n\n$$x^2$$\n"
)


LOOKS = [
    {"locale": "en-US", "color_scheme": "light"},
    {"locale": "zh-CN", "color_scheme": "dark"},
    {"locale": "en-US", "color_scheme": "dark", "viewport": {"width": 360, "height": 740}},
]


@pytest.mark.parametrize("look", LOOKS, ids=["light", "dark", "phone"])
def test_axe_finds_nothing(fake_page: Opener, look: dict[str, Any]) -> None:
    chat = fake_page(ScriptedRunner(ANSWER), page={"reduced_motion": "reduce", **look})
    page = chat.page
    assert violations(page) == []
    chat.ask("a question")
    page.locator(".katex").wait_for()
    assert violations(page) == []
    page.keyboard.press("Control+Comma")
    page.fill('[name="schema"]', "{")
    assert violations(page) == []
    page.locator('[type="checkbox"][name], .settings [type="checkbox"]').first.check()
    page.keyboard.press("Control+Comma")
    chat.ask("with probabilities")
    page.locator(".token").first.click()
    assert violations(page) == []
    page.keyboard.press("Control+Slash")
    assert violations(page) == []
    page.keyboard.press("Escape")
    for view in ("notebook", "guide"):
        page.evaluate(f"location.hash = '#/{view}'")
        page.locator(f".{view}").wait_for()
        page.wait_for_timeout(200)
        assert violations(page) == []
    page.keyboard.press("Control+k")
    page.wait_for_timeout(300)
    assert violations(page) == []


def test_states_of_messages(fake_page: Opener) -> None:
    chat = fake_page(ScriptedRunner("one", "two"))
    page = chat.page
    chat.ask("a question")
    chat.act("again")
    page.get_by_text("2 / 2").wait_for()
    chat.wait_until_answered()
    assert violations(page) == []
    chat.act("edit", "user")
    assert violations(page) == []
    page.keyboard.press("Escape")
    page.locator(".entry").hover()
    page.locator(".menu summary").click()
    assert violations(page) == []
    page.get_by_role("button", name="Rename").click()
    assert violations(page) == []
    page.keyboard.press("Escape")
    page.keyboard.press("Control+Comma")
    page.fill('[name="further"]', '{"logit_bias": {"x": 1}}')
    chat.send("x")
    page.locator(".failure").wait_for()
    assert violations(page) == []


def test_states_without_a_model_and_without_a_key(fake_page: Opener) -> None:
    loading = fake_page(ScriptedRunner("x"), start=False)
    loading.page.locator(".status").wait_for()
    assert violations(loading.page) == []
    config = ServerConfig(served_model_name="fake", api_keys=tenants("key"))
    guarded = fake_page(ScriptedRunner("x"), config=config)
    guarded.page.locator("dialog").wait_for()
    assert violations(guarded.page) == []


def test_a_conversation_by_keyboard_alone(fake_page: Opener) -> None:
    chat = fake_page(ScriptedRunner("one", "two"))
    page = chat.page
    page.keyboard.press("Tab")
    page.keyboard.type("hello")
    page.focus("#composer")
    page.keyboard.type("hello")
    page.keyboard.press("Enter")
    chat.wait_until_answered()
    page.focus("#composer")
    reached = set()
    for _ in range(20):
        page.keyboard.press("Shift+Tab")
        reached.add(page.evaluate("document.activeElement.getAttribute('aria-label') ?? ''"))
    assert {"Edit", "Copy", "Answer again", "Continue", "Conversation"} <= reached


def test_only_the_ends_of_an_answer_are_announced(fake_page: Opener) -> None:
    chat = fake_page(ScriptedRunner("word " * 50))
    page = chat.page
    page.evaluate(
        """() => {
            window.said = [];
            const region = document.querySelector('.unseen[role=status]');
            new MutationObserver(() => said.push(region.textContent))
                .observe(region, {childList: true, characterData: true, subtree: true});
        }"""
    )
    chat.ask("x")
    chat.until("said.length >= 2")
    assert page.evaluate("said") == ["The answer begins.", "The answer is complete."]
    assert page.locator(".messages [aria-live], .messages [role=status]").count() == 0
