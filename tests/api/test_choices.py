"""n, best_of, prompt lists, echo and log-probabilities, streamed and whole."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from glmserve.text.text_assembler import TextAssembler
from support.fakes import FakeRunner, expected_logprobs, expected_output

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"


def chat(**fields: Any) -> dict[str, Any]:
    body = {"model": "fake", "messages": [{"role": "user", "content": "hi"}]}
    return {**body, "temperature": 0, "max_tokens": 12, **fields}


def completion(**fields: Any) -> dict[str, Any]:
    return {"model": "fake", "prompt": "hi", "temperature": 0, "max_tokens": 12, **fields}


def generated(prompt: str, num_tokens: int = 12) -> list[int]:
    return expected_output(list(prompt.encode()), num_tokens)


def text_of(prompt: str, num_tokens: int = 12) -> str:
    return bytes(generated(prompt, num_tokens)).decode()


async def post(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> dict[str, Any]:
    response = await client.post(path, json=body)
    assert response.status_code == 200, response.text
    return response.json()  # type: ignore[no-any-return]


async def stream(
    client: httpx.AsyncClient, path: str, body: dict[str, Any]
) -> list[dict[str, Any]]:
    response = await client.post(path, json={**body, "stream": True})
    assert response.status_code == 200, response.text
    *blocks, done, rest = response.text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    return [json.loads(block.removeprefix("data: ")) for block in blocks]


def of_choice(chunks: list[dict[str, Any]], index: int) -> list[dict[str, Any]]:
    return [c for chunk in chunks for c in chunk["choices"] if c["index"] == index]


class TestManyChoices:
    async def test_choices_share_the_prompt_and_are_counted_in_full(self, make_client: Any) -> None:
        runner = FakeRunner()
        client = await make_client(runner=runner)
        runner.steps.clear()
        body = await post(client, CHAT, chat(n=3))
        assert [c["index"] for c in body["choices"]] == [0, 1, 2]
        assert {c["message"]["content"] for c in body["choices"]} == {text_of("user:hi\n")}
        assert body["usage"]["prompt_tokens"] == 8
        assert body["usage"]["completion_tokens"] == 36
        assert body["usage"]["total_tokens"] == 44
        computed = [len(s.token_ids) for step in runner.steps for s in step.sequences]
        assert sum(n for n in computed if n > 1) == 8 + 2 * 4  # whole once, then the last block

    async def test_each_choice_has_a_seed_of_its_own_and_the_first_the_requests(
        self, make_client: Any
    ) -> None:
        runner = FakeRunner()
        client = await make_client(runner=runner)

        async def keys(n: int) -> list[int]:
            runner.steps.clear()
            await post(client, CHAT, chat(n=n, temperature=1, seed=7, max_tokens=1))
            sampled = [s.sampling for step in runner.steps for s in step.sequences if s.sampling]
            return [s.noise_key for s in sampled]

        alone, three = await keys(1), await keys(3)
        assert len(set(three)) == 3
        assert three[0] == alone[0]
        assert three == await keys(3)

    @pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
    async def test_streams_are_told_apart_by_index(
        self, client: httpx.AsyncClient, path: str
    ) -> None:
        body = chat(n=3) if path == CHAT else completion(n=3)
        chunks = await stream(client, path, {**body, "stream_options": {"include_usage": True}})
        *chunks, last = chunks
        assert last["choices"] == []
        assert last["usage"]["completion_tokens"] == 36
        assert all(chunk["usage"] is None for chunk in chunks)
        assert len({(c["id"], c["created"], c["model"], c["object"]) for c in chunks}) == 1
        for index in range(3):
            choices = of_choice(chunks, index)
            reasons = [c["finish_reason"] for c in choices]
            assert reasons == [None] * (len(choices) - 1) + ["length"]
            if path == CHAT:
                assert choices[0]["delta"]["role"] == "assistant"
                assert not any("role" in c["delta"] for c in choices[1:])
                text = "".join(c["delta"].get("content", "") for c in choices)
            else:
                text = "".join(c["text"] for c in choices)
            assert text == text_of("user:hi\n" if path == CHAT else "hi")

    async def test_a_list_of_prompts(self, client: httpx.AsyncClient) -> None:
        body = await post(client, COMPLETIONS, completion(prompt=["ab", "cde"], n=2))
        assert [c["index"] for c in body["choices"]] == [0, 1, 2, 3]
        expected = [text_of("ab"), text_of("ab"), text_of("cde"), text_of("cde")]
        assert [c["text"] for c in body["choices"]] == expected
        assert body["usage"]["prompt_tokens"] == 5
        assert body["usage"]["completion_tokens"] == 48
        by_ids = await post(client, COMPLETIONS, completion(prompt=[[97, 98], [99, 100, 101]], n=2))
        assert [c["text"] for c in by_ids["choices"]] == expected
        chunks = await stream(client, COMPLETIONS, completion(prompt=["ab", "cde"], n=2))
        texts = ["".join(c["text"] for c in of_choice(chunks, i)) for i in range(4)]
        assert texts == expected

    async def test_nothing_starts_if_one_prompt_cannot(self, make_client: Any) -> None:
        client = await make_client()
        body = completion(prompt=[[1, 2], [1] * 200])
        response = await client.post(COMPLETIONS, json=body)
        assert response.status_code == 400
        assert response.json()["error"]["code"] == "context_length_exceeded"
        metrics = (await client.get("/metrics")).text
        assert 'glmserve_requests_running{model_name="fake"} 0.0' in metrics
        assert 'glmserve_requests_waiting{model_name="fake"} 0.0' in metrics

    async def test_best_of_returns_the_most_likely(self, make_client: Any) -> None:
        """FakeRunner reports a higher probability for lower ids."""

        class Diverging(FakeRunner):
            def execute(self, step: Any, masks: Any = list) -> Any:
                output = super().execute(step, masks)
                ids = [40 + s.request_id % 5 * 10 for s in step.sequences if s.sampling is not None]
                reports = [expected_logprobs(i, 0) if output.logprobs else None for i in ids]
                return type(output)(step.step_id, ids, reports if output.logprobs else [])

        client = await make_client(runner=Diverging())
        body = await post(client, COMPLETIONS, completion(n=2, best_of=5, max_tokens=3))
        texts = [c["text"] for c in body["choices"]]
        assert texts == [chr(40) * 3, chr(50) * 3]
        assert [c["index"] for c in body["choices"]] == [0, 1]
        assert body["usage"]["completion_tokens"] == 15
        assert body["choices"][0]["logprobs"] is None

    @pytest.mark.parametrize(
        "fields", [{"n": 3, "best_of": 2}, {"best_of": 2, "stream": True}, {"best_of": 0}]
    )
    async def test_best_of_that_cannot_be(
        self, client: httpx.AsyncClient, fields: dict[str, Any]
    ) -> None:
        response = await client.post(COMPLETIONS, json=completion(**fields))
        assert response.status_code == 400
        assert response.json()["error"]["param"] == "best_of"


def chat_token(token_id: int) -> dict[str, Any]:
    logprobs = expected_logprobs(token_id, 0)
    return {"token": chr(token_id), "logprob": logprobs.logprob, "bytes": [token_id]}


class TestLogprobs:
    async def test_of_a_chat(self, client: httpx.AsyncClient) -> None:
        body = await post(client, CHAT, chat(logprobs=True, top_logprobs=2, max_tokens=5))
        shape = body["choices"][0]["logprobs"]
        assert set(shape) == {"content", "refusal"}
        assert shape["refusal"] is None
        ids = generated("user:hi\n", 5)
        for entry, token_id in zip(shape["content"], ids, strict=True):
            top = entry.pop("top_logprobs")
            assert entry == chat_token(token_id)
            reported = expected_logprobs(token_id, 2)
            assert [t["logprob"] for t in top] == reported.top_logprobs
            assert [t["bytes"] for t in top] == [[token_id], [token_id + 1]]
        assert "".join(e["token"] for e in shape["content"]) == text_of("user:hi\n", 5)

    async def test_without_alternatives(self, client: httpx.AsyncClient) -> None:
        body = await post(client, CHAT, chat(logprobs=True))
        assert all(e["top_logprobs"] == [] for e in body["choices"][0]["logprobs"]["content"])

    @pytest.mark.parametrize("stop", [[], ["zzz"], [text_of("user:hi\n")[4:7]]])
    async def test_streams_say_the_same(self, client: httpx.AsyncClient, stop: list[str]) -> None:
        """With a stop string across tokens, too: neither text nor tokens give it away."""
        body = chat(logprobs=True, top_logprobs=1, stop=stop)
        whole = (await post(client, CHAT, body))["choices"][0]
        choices = of_choice(await stream(client, CHAT, body), 0)
        entries = [e for c in choices if c["logprobs"] for e in c["logprobs"]["content"]]
        text = "".join(c["delta"].get("content", "") for c in choices)
        assert entries == whole["logprobs"]["content"]
        assert text == whole["message"]["content"] == "".join(e["token"] for e in entries)

    async def test_of_a_text(self, client: httpx.AsyncClient) -> None:
        body = await post(client, COMPLETIONS, completion(logprobs=2, max_tokens=5))
        shape = body["choices"][0]["logprobs"]
        ids = generated("hi", 5)
        assert shape["tokens"] == [chr(i) for i in ids]
        assert shape["token_logprobs"] == [expected_logprobs(i, 0).logprob for i in ids]
        assert shape["text_offset"] == [0, 1, 2, 3, 4]
        assert [list(top) for top in shape["top_logprobs"]] == [[chr(i), chr(i + 1)] for i in ids]

    @pytest.mark.parametrize("max_tokens", [0, 5])
    @pytest.mark.parametrize("prompt", ["hé", list("hé".encode())])
    async def test_echo_scores_the_prompt(
        self, client: httpx.AsyncClient, prompt: Any, max_tokens: int
    ) -> None:
        body = completion(prompt=prompt, echo=True, logprobs=1, max_tokens=max_tokens)
        answer = await post(client, COMPLETIONS, body)
        choice, shape = answer["choices"][0], answer["choices"][0]["logprobs"]
        new = generated("hé", max_tokens)
        ids = [*"hé".encode(), *new]
        assert choice["text"] == "hé" + bytes(new).decode()
        assert shape["token_logprobs"] == [
            None,
            *(expected_logprobs(i, 0).logprob for i in ids[1:]),
        ]
        assert shape["top_logprobs"][0] is None
        assert shape["text_offset"] == [0, 1, 1, *range(2, 2 + max_tokens)]
        assert choice["finish_reason"] == "length"
        assert answer["usage"]["completion_tokens"] == max_tokens
        chunks = await stream(client, COMPLETIONS, body)
        choices = of_choice(chunks, 0)
        assert "".join(c["text"] for c in choices) == choice["text"]
        for key, value in shape.items():
            assert [x for c in choices if c["logprobs"] for x in c["logprobs"][key]] == value

    async def test_echo_without_logprobs_and_with_n(self, client: httpx.AsyncClient) -> None:
        body = completion(prompt=["ab", "c"], echo=True, n=2, max_tokens=3)
        texts = [c["text"] for c in (await post(client, COMPLETIONS, body))["choices"]]
        assert texts == ["ab" + text_of("ab", 3)] * 2 + ["c" + text_of("c", 3)] * 2
        chunks = await stream(client, COMPLETIONS, body)
        assert ["".join(c["text"] for c in of_choice(chunks, i)) for i in range(4)] == texts

    async def test_no_tokens_and_no_echo_is_refused(self, client: httpx.AsyncClient) -> None:
        response = await client.post(COMPLETIONS, json=completion(max_tokens=0))
        assert response.json()["error"]["param"] == "max_tokens"

    async def test_without_a_tokenizer_tokens_go_by_their_ids(self, make_client: Any) -> None:
        client = await make_client(with_tokenizer=False)
        body = await post(
            client, COMPLETIONS, completion(prompt=[104, 105], logprobs=1, max_tokens=2)
        )
        ids = generated("hi", 2)
        assert body["choices"][0]["logprobs"]["tokens"] == [f"token_id:{i}" for i in ids]


class TestExtensions:
    async def test_include_stop_str_in_output(self, client: httpx.AsyncClient) -> None:
        text = text_of("hi")
        stop = text[4:6]
        kept = completion(stop=stop, include_stop_str_in_output=True)
        end = text.index(stop) + 2
        assert (await post(client, COMPLETIONS, kept))["choices"][0]["text"] == text[:end]

    async def test_min_tokens_holds_back_stop_strings_and_stop_tokens(
        self, make_client: Any
    ) -> None:
        runner = FakeRunner()
        client = await make_client(runner=runner)
        stop = text_of("hi")[2]
        body = completion(stop=stop, min_tokens=6)
        answer = await post(client, COMPLETIONS, body)
        assert len(answer["choices"][0]["text"]) >= 6
        banned = [s.sampling.banned for step in runner.steps for s in step.sequences if s.sampling]
        assert any(256 in ids for ids in banned)

    async def test_the_served_name_asked_for_is_the_one_answered_with(
        self, make_client: Any
    ) -> None:
        from glmserve.config import ServerConfig

        config = ServerConfig(served_model_name="fake", further_model_names=("other",))
        client = await make_client(config=config)
        assert (await post(client, CHAT, chat(model="other")))["model"] == "other"
        chunks = await stream(client, COMPLETIONS, completion(model="other"))
        assert {c["model"] for c in chunks} == {"other"}

    async def test_a_bias_on_an_id_that_is_never_generated_is_refused(
        self, make_client: Any
    ) -> None:
        client = await make_client()
        app = client._transport.app
        app.state.context.tokenizer.never_sampled = frozenset({9})
        response = await client.post(CHAT, json=chat(logit_bias={"9": 1}))
        assert response.status_code == 400
        assert response.json()["error"]["param"] == "logit_bias"


async def test_a_choice_that_breaks_ends_the_stream_of_all(
    make_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError

    client = await make_client()
    monkeypatch.setattr(TextAssembler, "push", broken)
    response = await client.post(CHAT, json=chat(n=2, stream=True))
    assert "[DONE]" not in response.text
