"""An answer outlives page, worker and server: its text is that of an undisturbed one."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from support.axe import violations
from support.chat_page import ChatPage
from support.ports import free_port
from support.server_process import ServerProcess, without_worker

pytestmark = pytest.mark.browser

Opener = Callable[..., ChatPage]
QUESTION = "Tell me a long story about the sea and a small boat."
LENGTH = 400
"""Tokens of an answer: it ends by its length, so that there is time to disturb it."""


def prepare(chat: ChatPage) -> None:
    """Long answers of unlikely tokens: their text is not read as the tokens that were chosen."""
    chat.expected += ["net::ERR"]
    chat.open_settings()
    chat.page.fill('[name="further"]', '{"ignore_eos": true}')
    for name, value in (("seed", "11"), ("max_tokens", str(LENGTH)), ("temperature", "1.3")):
        chat.page.fill(f'[name="{name}"]', value)


def undisturbed(chat: ChatPage) -> str:
    """The answer's Markdown."""
    prepare(chat)
    chat.ask(QUESTION)
    answer = next(m for m in chat.stored("messages") if m["role"] == "assistant")
    assert len(answer["content"]) > 300
    chat.page.get_by_role("button", name="New conversation").click()
    chat.until("document.querySelectorAll('.message').length === 0")
    return str(answer["content"])


def last_answer(chat: ChatPage) -> str:
    chat.wait_until_answered()
    answers = [m for m in chat.stored("messages") if m["role"] == "assistant"]
    newest = max(answers, key=lambda m: m["created"])
    assert newest["state"] == "done"
    return str(newest["content"])


@pytest.mark.parametrize("has_journal", [False, True])
def test_a_reload_in_the_middle_of_an_answer(
    open_page: Opener, tmp_path: Path, has_journal: bool
) -> None:
    options = ["--journal", str(tmp_path)] if has_journal else []
    with ServerProcess("--dtype", "float32", *options) as server:
        chat = open_page(server.url + "/")
        whole = undisturbed(chat)
        chat.send(QUESTION)
        for least in (20, 120):
            chat.wait_for_text(least)
            chat.page.reload()
        assert last_answer(chat) == whole


def test_a_worker_that_is_killed(open_page: Opener) -> None:
    with ServerProcess("--dtype", "float32") as server:
        chat = open_page(server.url + "/")
        whole = undisturbed(chat)
        chat.send(QUESTION)
        chat.wait_for_text(30)
        banner = chat.page.get_by_text("The worker restarts; answers go on after that")
        with without_worker(server.pid):
            banner.wait_for()
            assert violations(chat.page) == []
            assert chat.page.locator(".status.restarting").get_attribute("role") == "status"
        banner.wait_for(state="detached")
        assert last_answer(chat) == whole


@pytest.mark.parametrize("has_journal", [False, True])
def test_a_server_that_is_killed(open_page: Opener, tmp_path: Path, has_journal: bool) -> None:
    port = free_port()
    options = ["--dtype", "float32", "--port", str(port)]
    options += ["--journal", str(tmp_path)] if has_journal else []
    with ServerProcess(*options) as server:
        chat = open_page(server.url + "/")
        whole = undisturbed(chat)
        chat.send(QUESTION)
        chat.wait_for_text(30)
        os.kill(server.pid, signal.SIGKILL)
        server.wait()
        chat.page.get_by_text("The server does not answer").wait_for()
    with ServerProcess(*options):
        assert last_answer(chat) == whole


def test_the_notebook_goes_on_as_well(open_page: Opener, glm_tiny: ServerProcess) -> None:
    chat = open_page(glm_tiny.url + "/")
    prepare(chat)
    page = chat.page

    def write(reloads: bool) -> str:
        page.get_by_role("button", name="Notebook").click()
        page.fill("#notebook", "Once upon a time")
        page.get_by_role("button", name="Continue the text").click()
        if reloads:
            chat.until("document.querySelector('#notebook').value.length > 100")
            page.reload()
        page.get_by_role("button", name="Continue the text").wait_for()
        return str(page.locator("#notebook").input_value())

    whole = write(reloads=False)
    assert len(whole) > 300
    assert write(reloads=True) == whole
    page.get_by_role("button", name="Undo").click()
    assert page.locator("#notebook").input_value() == "Once upon a time"
