"""Conversations that the checkpoint's own template writes, and servers without conversations."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from glmserve.text.templates.files import ChatTemplates
from glmserve.text.templates.template_format import TemplateFormat
from support.fake_server import client_of, serve
from support.fakes import ByteTokenizer

SOURCE = (
    "{% if messages[0].content == 'no' %}{{ raise_exception('I will not') }}{% endif %}"
    "{% for m in messages %}{{ m.role }}={{ m.content }};{% endfor %}<eos>{{ ending }}"
)
MESSAGES = [{"role": "system", "content": "<eos>"}, {"role": "user", "content": "hi"}]
PROMPT = [*b"system=<eos>;user=hi;", 256]
PATHS = ["/v1/chat/completions", "/v1/responses", "/v1/messages", "/tokenize"]


def _body(path: str, content: str = "hi") -> dict[str, Any]:
    if path == "/v1/responses":
        return {"model": "fake", "input": content}
    messages = [{"role": "user", "content": content}]
    return {"model": "fake", "messages": messages} | (
        {"max_tokens": 3} if path == "/v1/messages" else {}
    )


@pytest.fixture
async def served() -> AsyncIterator[tuple[httpx.AsyncClient, TemplateFormat]]:
    async with serve() as app, client_of(app) as client:
        templates = ChatTemplates(Path("chat_template.jinja"), {"default": SOURCE}, {})
        chat = TemplateFormat(ByteTokenizer(), templates)
        app.state.context.chat_format = chat
        yield client, chat


async def test_a_prompt_is_what_the_template_writes(
    served: tuple[httpx.AsyncClient, TemplateFormat],
) -> None:
    """Names of special tokens in messages stay text."""
    response = await served[0].post("/tokenize", json={"messages": MESSAGES})
    assert response.json()["tokens"] == PROMPT
    body = {"model": "fake", "messages": MESSAGES, "max_tokens": 3}
    answer = (await served[0].post("/v1/chat/completions", json=body)).json()
    assert answer["usage"]["prompt_tokens"] == len(PROMPT)


async def test_variables_of_a_request(served: tuple[httpx.AsyncClient, TemplateFormat]) -> None:
    """Names of special tokens in them stay text, too."""
    body = {"messages": MESSAGES[1:], "chat_template_kwargs": {"ending": "<eos>!"}}
    for path in ("/tokenize", "/v1/chat/completions/render"):
        answer = (await served[0].post(path, json={"model": "fake", **body})).json()
        tokens = answer.get("tokens") or answer["token_ids"]
        assert tokens == [*b"user=hi;", 256, *b"<eos>!"]
    response = await served[0].post("/tokenize", json={"messages": MESSAGES})
    assert response.json()["tokens"] == PROMPT


async def test_a_variable_that_no_template_can_get(
    served: tuple[httpx.AsyncClient, TemplateFormat],
) -> None:
    body = {"messages": MESSAGES, "chat_template_kwargs": {"ending": 2**70}}
    response = await served[0].post("/tokenize", json=body)
    assert response.status_code == 400
    assert "more than 64 bits" in response.json()["error"]["message"]


@pytest.mark.parametrize("path", PATHS)
async def test_a_refusal_is_an_error_of_the_request(
    served: tuple[httpx.AsyncClient, TemplateFormat], path: str
) -> None:
    response = await served[0].post(path, json=_body(path, "no"))
    assert response.status_code == 400
    assert "refuses this conversation: I will not" in response.json()["error"]["message"]


@pytest.mark.parametrize("path", PATHS)
async def test_the_event_loop_does_not_wait_for_a_template(
    served: tuple[httpx.AsyncClient, TemplateFormat], path: str
) -> None:
    client, chat = served
    threads = []
    render = chat._renderer.render

    def noted(*arguments: Any) -> list[str]:
        threads.append(threading.current_thread())
        return render(*arguments)

    chat._renderer.render = noted  # type: ignore[method-assign]
    assert (await client.post(path, json=_body(path))).status_code == 200
    assert threads
    assert threading.main_thread() not in threads


@pytest.mark.parametrize("path", PATHS)
async def test_a_server_without_conversations(path: str) -> None:
    async with serve() as app, client_of(app) as client:
        app.state.context.chat_format = None
        response = await client.post(path, json=_body(path))
        assert response.status_code == 400
        assert "--chat-template none" in response.json()["error"]["message"]
        body = {"model": "fake", "prompt": "hi", "max_tokens": 3}
        assert (await client.post("/v1/completions", json=body)).status_code == 200
