"""Answers from the cache: enough of them, at random, marked, and never another key's."""

from __future__ import annotations

from typing import Any

import pytest

from glmserve.api.answering.response_cache import KeptAnswer, ResponseCache
from glmserve.config import ServerConfig
from support.fake_server import tenants
from support.fakes import FakeRunner

CHAT = "/v1/chat/completions"
HEADER = "x-glmserve-cache"


def config(**fields: Any) -> ServerConfig:
    return ServerConfig(served_model_name="fake", **{"cache_size": 4, **fields})


def body(**fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "hi"}]
    return {"model": "fake", "messages": messages, "max_tokens": 4, **fields}


def test_the_oldest_request_is_forgotten_and_a_used_one_is_not() -> None:
    cache = ResponseCache(size=2, list_size=1)
    for key in (b"a", b"b"):
        cache.add(key, KeptAnswer(key, "text/plain"))
    assert cache.find(b"a") is not None
    cache.add(b"c", KeptAnswer(b"c", "text/plain"))
    assert cache.find(b"b") is None
    assert cache.find(b"a") == KeptAnswer(b"a", "text/plain")


def test_answers_are_collected_before_any_is_given() -> None:
    cache = ResponseCache(size=1, list_size=3)
    for number in range(5):
        assert (cache.find(b"k") is None) is (number < 3)
        cache.add(b"k", KeptAnswer(b"%d" % number, "text/plain"))
    given = {cache.find(b"k") for _ in range(100)}
    assert given == {KeptAnswer(b"%d" % number, "text/plain") for number in range(3)}


def test_a_huge_answer_is_not_kept() -> None:
    cache = ResponseCache(size=1, list_size=1)
    cache.add(b"k", KeptAnswer(bytes(2**20 + 1), "text/plain"))
    assert cache.find(b"k") is None


async def test_a_default_that_is_named_is_answered_by_its_name(make_client: Any) -> None:
    client = await make_client(config=config())
    for fields in ({}, {"service_tier": "auto"}):
        answers = [await client.post(CHAT, json=body(**fields)) for _ in range(2)]
        assert [r.headers[HEADER] for r in answers] == ["miss", "hit"]
        assert all(("service_tier" in r.json()) == bool(fields) for r in answers)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_that_comes_again(make_client: Any, stream: bool) -> None:
    runner = FakeRunner()
    client = await make_client(runner=runner, config=config())
    first = await client.post(CHAT, json=body(stream=stream))
    steps = len(runner.steps)
    again = await client.post(CHAT, json=body(stream=stream, user="somebody"))
    other = await client.post(CHAT, json=body(stream=stream, max_tokens=3))
    assert [r.headers[HEADER] for r in (first, again, other)] == ["miss", "hit", "miss"]
    assert again.content == first.content
    assert (
        again.headers["content-type"].split(";")[0] == first.headers["content-type"].split(";")[0]
    )
    assert len(runner.steps) == steps + 3


async def test_a_streamed_and_a_whole_answer_are_two_things(make_client: Any) -> None:
    client = await make_client(config=config())
    await client.post(CHAT, json=body())
    response = await client.post(CHAT, json=body(stream=True))
    assert response.headers[HEADER] == "miss"
    assert response.text.endswith("data: [DONE]\n\n")


async def test_never_across_api_keys(make_client: Any) -> None:
    client = await make_client(config=config(api_keys=tenants("one", "two")))

    async def ask(key: str) -> str:
        headers = {"Authorization": f"Bearer {key}"}
        response = await client.post(CHAT, json=body(), headers=headers)
        return str(response.headers[HEADER])

    assert [await ask(key) for key in ("one", "one", "two", "two")] == ["miss", "hit"] * 2


@pytest.mark.parametrize("stream", [False, True])
async def test_failures_are_not_kept(make_client: Any, stream: bool) -> None:
    class FailsOnce(FakeRunner):
        failures = 1

        def execute(self, step: Any, masks: Any = list) -> Any:
            output = super().execute(step, masks)
            if self.failures and len(self.steps) == 3:
                self.failures -= 1
                return type(output)(step.step_id, [-1] * len(output.token_ids))
            return output

    client = await make_client(runner=FailsOnce(), config=config())
    failed = await client.post(CHAT, json=body(stream=stream))
    assert "not finite" in failed.text
    again = await client.post(CHAT, json=body(stream=stream))
    assert again.headers[HEADER] == "miss"
    assert again.status_code == 200


async def test_without_a_cache_there_is_no_mark(client: Any) -> None:
    assert HEADER not in (await client.post(CHAT, json=body())).headers
