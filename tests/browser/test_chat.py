"""Conversations: asking, stopping, branching, keeping."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from glmserve.config import ServerConfig
from support.chat_page import ChatPage
from support.fake_server import tenants
from support.scripted import ScriptedRunner
from support.server_process import ServerProcess

pytestmark = pytest.mark.browser

Opener = Callable[..., ChatPage]


def test_an_answer_streams_and_says_how_it_came_about(
    open_page: Opener, glm_tiny: ServerProcess
) -> None:
    chat = open_page(glm_tiny.url + "/")
    chat.open_settings()
    chat.page.fill('[name="further"]', '{"ignore_eos": true, "max_tokens": 200}')
    assert len(chat.ask("Hello! Who are you?")) > 10
    facts = chat.page.locator(".message.assistant .facts").inner_text()
    for part in ("tokens/s", "first after", "prompt tokens cached"):
        assert part in facts
    chat.page.wait_for_selector(".gauge meter")
    assert "of 2,048 tokens" in chat.page.locator(".gauge").inner_text()
    assert chat.page.locator(".model select").input_value() == "glm-tiny"


def test_what_stands_in_an_answer_is_shown_as_markdown(fake_page: Opener) -> None:
    source = (
        "# Title\n\nSome **bold** `code`\n\n* one\n* two\n\n```python\nprint(1)\n```\n\n"
        "| a | b |\n|---|---|\n| 1 | 2 |\n\n$$x^2$$\n"
    )
    chat = fake_page(ScriptedRunner(source))
    chat.ask("x")
    text = chat.page.locator(".message.assistant .prose")
    assert text.locator("h1").inner_text() == "Title"
    assert text.locator("strong").inner_text() == "bold"
    assert text.locator("li").all_inner_texts() == ["one", "two"]
    assert text.locator("th").all_inner_texts() == ["a", "b"]
    text.locator(".hl-built_in").wait_for()
    text.locator(".katex").wait_for()
    assert text.locator("pre").inner_text().strip() == "print(1)"


def test_a_stopped_answer_stays_and_can_be_continued(
    open_page: Opener, glm_tiny: ServerProcess
) -> None:
    chat = open_page(glm_tiny.url + "/")
    chat.open_settings()
    chat.page.fill('[name="temperature"]', "0")
    whole = chat.ask("Write a short story about the sea.")
    chat.page.get_by_role("button", name="New conversation").click()
    chat.send("Write a short story about the sea.")
    chat.wait_for_text(5)
    chat.page.keyboard.press("Escape")
    chat.wait_until_answered()
    part = chat.answer
    assert whole.startswith(part)
    if part != whole:
        chat.act("go-on")
        chat.wait_for_text(len(part) + 1)
        chat.wait_until_answered()
    assert chat.answer == whole


def test_answers_and_edits_are_branches(fake_page: Opener) -> None:
    chat = fake_page(ScriptedRunner("first", "second", "third"))
    assert chat.ask("question") == "first"
    chat.act("again")
    chat.page.get_by_text("2 / 2").wait_for()
    chat.wait_until_answered()
    assert chat.answer == "second"
    chat.page.get_by_role("button", name="Previous version").click()
    chat.page.get_by_text("1 / 2").wait_for()
    chat.page.get_by_text("first", exact=True).wait_for()
    assert chat.answer == "first"
    chat.act("edit", "user")
    chat.page.fill(".editor textarea", "other question")
    chat.page.press(".editor textarea", "Control+Enter")
    chat.page.get_by_text("third").wait_for()
    assert chat.user_texts == ["other question"]
    chat.page.get_by_role("button", name="Previous version").click()
    chat.page.get_by_text("second").wait_for()
    assert chat.user_texts == ["question"]


def test_the_history_is_kept_searched_renamed_and_removed(fake_page: Opener) -> None:
    chat = fake_page(ScriptedRunner("about whales", "about birds"))
    chat.ask("first topic")
    chat.page.get_by_role("button", name="New conversation").click()
    chat.ask("second topic")
    chat.page.reload()
    chat.page.locator(".history .title").nth(1).wait_for()
    assert chat.titles == ["second topic", "first topic"]
    assert chat.answer == "about birds"
    chat.page.fill("#search", "whales")
    chat.until("document.querySelectorAll('.history .title').length == 1")
    assert chat.titles == ["first topic"]
    chat.page.locator(".history .title").click()
    chat.page.get_by_text("about whales").wait_for()
    chat.page.locator(".history .title").dblclick()
    chat.page.fill(".rename", "sea animals")
    chat.page.press(".rename", "Enter")
    chat.page.fill("#search", "sea")
    assert chat.titles == ["sea animals"]
    chat.page.on("dialog", lambda dialog: dialog.accept())
    chat.page.locator(".entry").hover()
    chat.page.locator(".menu summary").click()
    chat.page.get_by_role("button", name="Delete").click()
    chat.page.get_by_text("Nothing found").wait_for()
    assert len(chat.stored("messages")) == 2


def test_conversations_travel_in_a_file(fake_page: Opener, tmp_path: Path) -> None:
    chat = fake_page(ScriptedRunner("an answer"))
    chat.ask("a question")
    with chat.page.expect_download() as download:
        chat.page.get_by_role("button", name="Export all").click()
    file = tmp_path / "chats.json"
    download.value.save_as(file)
    assert len(json.loads(file.read_text())["messages"]) == 2
    hostile = json.loads(file.read_text())
    other = fake_page(ScriptedRunner("x"))
    other.page.locator('input[type="file"]').set_input_files(file)
    other.page.locator(".history .title").click()
    other.page.get_by_text("an answer").wait_for()
    for message in hostile["messages"]:  # each is the parent of the other
        message["parent"] = next(m["id"] for m in hostile["messages"] if m is not message)
    file.write_text(json.dumps(hostile))
    other.page.locator('input[type="file"]').set_input_files(file)
    other.page.reload()
    other.page.get_by_text("an answer").wait_for()
    messages: list[str] = []
    other.page.on("dialog", lambda dialog: (messages.append(dialog.message), dialog.dismiss()))
    hostile["messages"][0]["role"] = "operator"
    for text in ("[]", "{", json.dumps(hostile)):
        file.write_text(text)
        other.page.locator('input[type="file"]').set_input_files(file)
        other.page.wait_for_timeout(300)
    assert messages == 3 * ["This file has no conversations of glmserve."]


def test_a_draft_is_kept_for_each_conversation(fake_page: Opener) -> None:
    chat = fake_page(ScriptedRunner("an answer"))
    chat.ask("a question")
    chat.page.fill("#composer", "half a thought")
    chat.page.get_by_role("button", name="New conversation").click()
    chat.until("document.querySelector('#composer').value === ''")
    chat.page.fill("#composer", "another")
    chat.page.reload()
    chat.until("document.querySelector('#composer').value === 'another'")
    chat.page.locator(".history .title").click()
    chat.until("document.querySelector('#composer').value === 'half a thought'")


def test_the_key_is_asked_for_and_kept_in_the_tab(fake_page: Opener) -> None:
    config = ServerConfig(served_model_name="fake", api_keys=tenants("secret-key"))
    chat = fake_page(ScriptedRunner("an answer"), config=config)
    chat.page.fill("dialog input", "secret-key")
    chat.page.get_by_role("button", name="Use this key").click()
    assert chat.ask("a question") == "an answer"
    assert chat.page.evaluate("localStorage.getItem('glmserve.key')") is None
    chat.page.reload()
    chat.page.wait_for_selector(".model option[value=fake]", state="attached")
    assert chat.page.locator("dialog").count() == 0


def test_a_key_of_any_letters(fake_page: Opener) -> None:
    config = ServerConfig(served_model_name="fake", api_keys=tenants("密钥"))
    chat = fake_page(ScriptedRunner("an answer"), config=config)
    chat.page.fill("dialog input", "密钥")
    chat.page.get_by_role("button", name="Use this key").click()
    chat.page.wait_for_selector(".model option[value=fake]", state="attached")
    assert chat.ask("x") == "an answer"


def test_settings_reach_the_server(fake_page: Opener) -> None:
    chat = fake_page(ScriptedRunner("an answer"))
    chat.page.wait_for_selector(".model option[value=fake]", state="attached")
    chat.open_settings()
    assert chat.page.locator('[name="temperature"]').get_attribute("placeholder") == "1"
    chat.page.fill('[name="temperature"]', "0.5")
    chat.page.fill('[name="seed"]', "7")
    chat.page.fill('[name="system"]', "Be brief.")
    chat.page.fill('[name="stop"]', "one\ntwo")
    with chat.page.expect_request("**/v1/chat/completions") as sent:
        chat.send("x")
    body = json.loads(sent.value.post_data)
    assert (body["temperature"], body["seed"], body["stop"]) == (0.5, 7, ["one", "two"])
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert "top_p" not in body
    chat.wait_until_answered()
    chat.page.fill('[name="temperature"]', "3")
    with chat.page.expect_request("**/v1/chat/completions") as sent:
        chat.send("y")
    assert "temperature" not in json.loads(sent.value.post_data)
    chat.page.get_by_text("This must be a number from 0 to 2. It is not sent.").wait_for()
    chat.wait_until_answered()


def test_keys_do_what_the_help_says(fake_page: Opener) -> None:
    chat = fake_page(ScriptedRunner("an answer"))
    chat.ask("a question")
    page = chat.page
    page.keyboard.press("Control+Slash")
    page.get_by_role("dialog").wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="detached")
    page.keyboard.press("Control+k")
    chat.until("document.activeElement.id === 'search'")
    page.keyboard.press("Control+Comma")
    page.locator(".settings").wait_for()
    page.focus("#composer")
    page.keyboard.press("ArrowUp")
    page.locator(".editor textarea").wait_for()
    page.keyboard.press("Control+Shift+O")
    chat.until("document.activeElement.id === 'composer'")
    page.keyboard.type("one")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("two")
    assert page.locator("#composer").input_value() == "one\ntwo"


def test_both_languages_and_both_themes(fake_page: Opener) -> None:
    chat = fake_page(ScriptedRunner("an answer"), page={"locale": "zh-CN", "color_scheme": "dark"})
    page = chat.page
    assert page.locator("#composer").get_attribute("placeholder") == "输入消息"
    background = "getComputedStyle(document.querySelector('.main')).backgroundColor"
    dark = page.evaluate(background)
    page.locator(".theme select").select_option("light")
    assert page.evaluate(background) == "rgb(255, 255, 255)" != dark
    page.get_by_role("button", name="English").click()
    page.reload()
    page.get_by_placeholder("Write a message").wait_for()
    assert page.evaluate("document.documentElement.lang") == "en"
    assert page.evaluate(background) == "rgb(255, 255, 255)"


def test_on_a_phone_the_history_is_a_drawer(fake_page: Opener) -> None:
    chat = fake_page(
        ScriptedRunner("an answer " * 30), page={"viewport": {"width": 360, "height": 700}}
    )
    chat.ask("a question")
    page = chat.page
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert not page.locator(".history").is_visible()
    page.get_by_role("button", name="History").click()
    page.locator(".history .title").click()
    page.locator(".sidebar.open").wait_for(state="detached")


def test_a_server_that_is_not_ready_is_named(fake_page: Opener) -> None:
    chat = fake_page(ScriptedRunner("an answer"), start=False)
    chat.page.get_by_text("The model is loading").wait_for()


def test_a_server_that_is_drained_is_named(fake_page: Opener) -> None:
    config = ServerConfig(served_model_name="fake", admin_key="boss")
    chat = fake_page(ScriptedRunner("an answer"), config=config)
    drain = chat.url + "admin/drain"
    assert httpx.post(drain, headers={"x-api-key": "boss"}).status_code == 200
    chat.page.get_by_text("takes no new ones").wait_for()
    chat.send("a question")  # is asked once the server takes it
    chat.page.locator(".thinking").wait_for()
    assert httpx.delete(drain, headers={"x-api-key": "boss"}).status_code == 200
    chat.wait_until_answered()
    assert chat.answer == "an answer"
    chat.page.locator(".status").wait_for(state="detached")


def test_an_answer_is_copied_as_it_was_written(fake_page: Opener) -> None:
    chat = fake_page(ScriptedRunner("**bold** `code`"))
    chat.context.grant_permissions(["clipboard-read", "clipboard-write"])
    chat.ask("x")
    chat.act("copy")
    chat.page.get_by_role("button", name="Copied").wait_for()
    assert chat.page.evaluate("navigator.clipboard.readText()") == "**bold** `code`"


def test_a_model_is_chosen_by_name(fake_page: Opener) -> None:
    config = ServerConfig(served_model_name="fake", further_model_names=("other",))
    chat = fake_page(ScriptedRunner("an answer"), config=config)
    chat.page.locator(".model select").select_option("other")
    with chat.page.expect_request("**/v1/chat/completions") as sent:
        chat.send("x")
    assert json.loads(sent.value.post_data)["model"] == "other"
    chat.wait_until_answered()
    chat.page.reload()
    chat.page.wait_for_selector(".model option[value=other]", state="attached")
    assert chat.page.locator(".model select").input_value() == "other"


def test_a_long_history_is_drawn_from_its_end(fake_page: Opener) -> None:
    chat = fake_page(ScriptedRunner("an answer"))
    chat.keep("long", [f"answer {i}" for i in range(2000)])
    page = chat.page
    assert page.locator(".message").count() == 40
    assert chat.answer == "answer 1999"
    page.get_by_role("button", name="Show earlier messages (1960)").click()
    chat.until("document.querySelectorAll('.message').length === 140")
    page.fill("#search", "answer 17")
    chat.until("document.querySelectorAll('.history .title').length === 1")
    page.get_by_role("button", name="New conversation").click()
    chat.until("document.querySelectorAll('.message').length === 0")
    assert chat.ask("one more") == "an answer"


def test_the_same_page_behind_a_prefix(fake_page: Opener) -> None:
    config = ServerConfig(served_model_name="fake", root_path="/a/glm")
    chat = fake_page(ScriptedRunner("an answer"), config=config)
    chat.url += "a/glm/"
    chat.page.goto(chat.url)
    with chat.page.expect_request("**/a/glm/v1/chat/completions"):
        assert chat.ask("x") == "an answer"
