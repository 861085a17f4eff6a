"""Tools, schemas, probabilities, thoughts, adapters, the notebook and the guide."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.adapters import write_adapter
from support.axe import violations
from support.chat_page import ChatPage
from support.scripted import ScriptedRunner
from support.server_process import ServerProcess
from support.thinking import ThinkingChat

pytestmark = pytest.mark.browser

Opener = Callable[..., ChatPage]

PARAMETERS = {
    "type": "object",
    "properties": {"city": {"enum": ["Oslo", "Rome"]}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}}


def test_a_tool_is_called_and_answered_by_hand(open_page: Opener, glm_tiny: ServerProcess) -> None:
    chat = open_page(glm_tiny.url + "/")
    page = chat.page
    chat.open_settings()
    page.fill('[name="tools"]', json.dumps([WEATHER]))
    page.fill('[name="further"]', '{"tool_choice": "required"}')
    chat.send("What is the weather in Oslo?")
    page.get_by_role("button", name="Send results").wait_for()
    assert page.locator(".call p").inner_text() == "Calls weather"
    assert json.loads(page.locator(".call pre").inner_text())["city"] in ("Oslo", "Rome")
    page.fill('[name="further"]', '{"tool_choice": "none", "max_tokens": 20}')
    page.get_by_label("Result of weather").fill('{"degrees": 7}')
    with page.expect_request("**/v1/chat/completions") as sent:
        page.get_by_role("button", name="Send results").click()
    _, call, result = json.loads(sent.value.post_data)["messages"]
    assert result["role"] == "tool"
    assert result["tool_call_id"] == call["tool_calls"][0]["id"]
    assert result["content"] == '{"degrees": 7}'
    chat.until("document.querySelectorAll('.message.assistant').length === 2")
    chat.wait_until_answered()
    assert page.locator(".failure").count() == 0


def test_an_answer_matches_a_schema(open_page: Opener, glm_tiny: ServerProcess) -> None:
    chat = open_page(glm_tiny.url + "/")
    chat.open_settings()
    chat.page.fill('[name="schema"]', json.dumps(PARAMETERS))
    assert json.loads(chat.ask("Which city?"))["city"] in ("Oslo", "Rome")


def test_what_is_no_json_is_named_and_not_sent(fake_page: Opener) -> None:
    chat = fake_page(ScriptedRunner("an answer"))
    page = chat.page
    chat.open_settings()
    page.fill('[name="schema"]', "[1]")
    page.get_by_text("This must be a JSON object.").wait_for()
    page.fill('[name="tools"]', '[{"name": "x"}]')
    page.get_by_text("Tools are a list of objects with a type.").wait_for()
    page.fill('[name="further"]', "{")
    assert page.locator('[aria-invalid="true"]').count() == 3
    page.fill("#composer", "x")
    with page.expect_request("**/v1/chat/completions") as sent:
        page.press("#composer", "Enter")
    assert not {"tools", "response_format"} & json.loads(sent.value.post_data).keys()
    chat.wait_until_answered()


def test_numbers_that_the_server_does_not_take_are_named_and_not_sent(fake_page: Opener) -> None:
    chat = fake_page(ScriptedRunner("an answer"))
    page = chat.page
    chat.open_settings()
    silly = {"temperature": "-5", "top_p": "7", "top_k": "1.5", "max_tokens": "0", "seed": "1e300"}
    for name, value in silly.items():
        page.fill(f'[name="{name}"]', value)
        assert page.locator(f'[name="{name}"]').input_value() == value
    assert page.locator('[aria-invalid="true"]').count() == len(silly)
    page.get_by_text("This must be a number from 0 to 1. It is not sent.").wait_for()
    assert violations(page) == []
    with page.expect_request("**/v1/chat/completions") as sent:
        chat.send("x")
    body = json.loads(sent.value.post_data)
    assert not (silly.keys() - {"seed"}) & body.keys()
    assert 0 <= body["seed"] < 2**31
    for name in silly:
        page.fill(f'[name="{name}"]', "")
    assert page.locator('[aria-invalid="true"]').count() == 0
    page.fill('[name="temperature"]', "0.333")  # no step of the arrows
    chat.wait_until_answered()
    with page.expect_request("**/v1/chat/completions") as sent:
        chat.send("x")
    assert json.loads(sent.value.post_data)["temperature"] == 0.333
    chat.wait_until_answered()


def test_an_address_that_is_no_text_opens_the_page(fake_page: Opener) -> None:
    chat = fake_page(ScriptedRunner("x"))
    for address in ("#/guide/%E0%A4%A", "#/%", "#/chat/nothing", "#///"):
        chat.page.goto(chat.url + address)
        chat.page.reload()
        chat.page.locator("main h1").first.wait_for()


def test_probabilities_and_their_alternatives(fake_page: Opener) -> None:
    chat = fake_page(ScriptedRunner("abc"))
    page = chat.page
    chat.open_settings()
    page.get_by_label("Ask for the probability").check()
    chat.send("x")
    page.locator('[data-action="again"]').wait_for()
    assert page.locator(".token").all_inner_texts() == ["a", "b", "c"]
    page.locator(".token").nth(1).hover()
    assert page.locator(".alternatives tr").count() == 6  # and the fake's five
    assert page.locator(".alternatives .taken code").inner_text() == "b"
    page.focus(".tokens")
    page.keyboard.press("ArrowRight")
    assert page.locator(".alternatives .taken code").inner_text() == "c"
    page.get_by_role("button", name="Probabilities").click()
    assert chat.answer == "abc"


def test_an_error_of_the_server_is_shown_in_its_own_words(fake_page: Opener) -> None:
    chat = fake_page(ScriptedRunner("an answer"))
    chat.open_settings()
    chat.page.fill('[name="further"]', '{"logit_bias": {"x": 1}}')
    chat.send("x")
    assert "logit_bias" in chat.page.locator(".failure").inner_text()
    chat.page.fill('[name="further"]', "")
    chat.act("again")
    chat.page.get_by_text("an answer").wait_for()


def test_the_guide_is_read_and_searched(fake_page: Opener) -> None:
    chat = fake_page(ScriptedRunner("x"))
    page = chat.page
    page.get_by_role("button", name="Guide").click()
    page.get_by_role("heading", name="The glmserve guide").wait_for()
    page.locator(".guide-text").get_by_role("link", name="Quick start").click()
    page.get_by_role("heading", name="Quick start").wait_for()
    assert chat.url + "v1/chat/completions" in page.locator(".guide-text").inner_text()
    assert "127.0.0.1:8000" not in page.locator(".guide-text").inner_text()
    page.locator(".guide-list").get_by_role("button", name="The page").click()
    chat.until("document.querySelector('.guide-text img')?.naturalWidth > 500")
    page.get_by_placeholder("Search the guide").fill("killed, run out of memory")
    page.locator(".found button").click()
    heading = page.get_by_role("heading", name="The journal: survive a restart")
    heading.wait_for()
    chat.until("document.querySelector('.guide-text').scrollTop > 500")
    assert abs(heading.bounding_box()["y"] - page.locator(".guide-text").bounding_box()["y"]) < 80


THOUGHTS = "The question is short. " * 20
SUM = "It is 4."


class UnhurriedRunner(ScriptedRunner):
    """Its answers take seconds, so that one can look at them meanwhile."""

    def execute(self, *arguments: Any) -> Any:
        time.sleep(0.006)
        return super().execute(*arguments)


def test_thoughts_are_open_while_they_come_and_folded_with_the_answer(fake_page: Opener) -> None:
    chat = fake_page(UnhurriedRunner(f"{THOUGHTS}</think>{SUM}"), chat=ThinkingChat)
    page = chat.page
    chat.send("What is 2 + 2?")
    thoughts = page.locator(".thoughts")
    thoughts.get_by_text("The question is short.").wait_for()
    assert thoughts.get_attribute("open") is not None
    assert violations(page) == []
    page.get_by_text(SUM).wait_for()
    chat.wait_until_answered()
    assert thoughts.get_attribute("open") is None
    assert not thoughts.get_by_text("The question is short.").is_visible()
    assert chat.answer == SUM
    page.locator(".thoughts summary").click()
    thoughts.get_by_text("The question is short.").wait_for()
    assert violations(page) == []
    chat.page.reload()
    page.locator(".thoughts summary").wait_for()
    assert page.locator(".thoughts").get_attribute("open") is None
    with page.expect_request("**/v1/chat/completions") as sent:
        chat.send("And 3 + 3?")
    first_answer = json.loads(sent.value.post_data)["messages"][1]
    assert first_answer["content"] == SUM
    assert THOUGHTS not in json.dumps(first_answer)


def test_a_view_that_cannot_be_loaded_says_so(fake_page: Opener) -> None:
    chat = fake_page(ScriptedRunner("x"))
    page = chat.page
    chat.expected.append("net::ERR")
    page.route("**/parts/board/board.js", lambda route: route.abort())
    page.reload()
    page.get_by_role("button", name="Board").click()
    page.get_by_text("This part of the page could not be loaded.").wait_for()
    assert violations(page) == []
    page.unroute("**/parts/board/board.js")
    page.get_by_role("button", name="Load the page anew").click()
    page.locator(".tiles").wait_for()


def test_views_open_without_a_server(open_page: Opener) -> None:
    with ServerProcess("--device", "null") as server:
        chat = open_page(server.url + "/")
        loaded = (
            "performance.getEntriesByType('resource').filter(e => e.name.endsWith({!r})).length"
        )
        for view in ("board/board.js", "parts/notebook.js"):
            chat.until(loaded.format(view))
        chat.page.wait_for_timeout(300)
    chat.expected.append("net::ERR")
    for name, view in (("Notebook", "#notebook"), ("Board", ".board")):
        chat.page.get_by_role("button", name=name).click()
        chat.page.locator(view).wait_for()


def test_a_guide_that_cannot_be_loaded_says_so(fake_page: Opener) -> None:
    chat = fake_page(ScriptedRunner("x"))
    page = chat.page
    page.route("**/guide/README.md", lambda route: route.fulfill(status=404, body="{}"))
    page.get_by_role("button", name="Guide").click()
    page.get_by_text("This part of the page could not be loaded.").wait_for()
    page.unroute("**/guide/README.md")
    page.get_by_role("button", name="Load the page anew").click()
    page.get_by_role("heading", name="The glmserve guide").wait_for()


def test_adapters_are_in_the_list_of_models(open_page: Opener, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "sailor", "1")
    with ServerProcess("--device", "null", "--adapter", f"sailor={folder}") as server:
        chat = open_page(server.url + "/")
        page = chat.page
        page.wait_for_selector(".model option[value=sailor]", state="attached")
        names = page.locator(".model option").all_inner_texts()
        assert [name.strip() for name in names] == ["glm-tiny", "sailor · adapter"]
        page.locator(".model select").select_option("sailor")
        with page.expect_request("**/v1/chat/completions") as sent:
            chat.send("x")
        assert json.loads(sent.value.post_data)["model"] == "sailor"
        chat.wait_until_answered()
        assert page.locator(".failure").count() == 0
        assert violations(page) == []
        page.get_by_role("button", name="中文").click()
        assert page.locator(".model option").last.inner_text().strip() == "sailor · 适配器"
