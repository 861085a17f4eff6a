"""`glmserve.LLM`: what its methods return, refuse and end."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from glmserve import LLM, GlmserveError, SamplingParams
from glmserve.errors import (
    CheckpointError,
    ClosedError,
    ContextLengthError,
    EngineDeadError,
    InvalidRequestError,
    OptionError,
)

GREEDY = SamplingParams(temperature=0, max_tokens=12)
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Tells the weather.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


def test_one_prompt_gives_one_result_and_several_give_a_list(null: LLM) -> None:
    one = null.generate("hello", max_tokens=3)
    assert one.usage is not None
    assert (len(one.token_ids), one.usage.completion_tokens) == (3, 3)
    assert one.finish_reason == "length"
    assert null.generate([5, 6, 7], max_tokens=3).choices[0].prompt_token_ids == [5, 6, 7]
    assert [len(r.token_ids) for r in null.generate(["a", [5, 6]], max_tokens=2)] == [2, 2]
    assert null.generate([]) == null.chat([]) == null.embed([]) == []


def test_a_list_may_be_longer_than_the_queue_and_be_a_generator(null: LLM) -> None:
    prompts = (f"prompt {number}" for number in range(50))
    results = null.generate(prompts, max_tokens=2, return_token_ids=True, echo=True)
    assert [r.text.startswith(f"prompt {i}") for i, r in enumerate(results)] == [True] * 50


def test_each_of_several_may_have_params_of_its_own(null: LLM) -> None:
    lengths = [3, 1, 2]
    params = [SamplingParams(max_tokens=length) for length in lengths]
    assert [len(r.token_ids) for r in null.generate(["a"] * 3, params)] == lengths
    found = null.chat((text for text in "abc"), params, stream=False)
    assert [r.usage.completion_tokens for r in found] == lengths


def test_choices_beyond_the_batch(null: LLM) -> None:
    results = null.generate(["a", "b", "c"], SamplingParams(n=4, max_tokens=2))
    assert [[c.index for c in r.choices] for r in results] == [[0, 1, 2, 3]] * 3


def test_requests_of_a_list_get_the_servers_seeds_in_order(tiny: LLM) -> None:
    texts = ["hello", "你好", "hello"]
    last = next(tiny._llm.server.context.seeds)
    unset = tiny.chat(texts, max_tokens=9)
    given = [tiny.chat(text, max_tokens=9, seed=last + i) for i, text in enumerate(texts, 1)]
    assert [r.text for r in unset] == [r.text for r in given]


def test_conversations_and_answers_that_are_sent_back(tiny: LLM) -> None:
    messages: list[Any] = [{"role": "user", "content": "hello"}]
    answer = tiny.chat(messages, GREEDY)
    assert answer.text == tiny.chat("hello", GREEDY).text
    assert answer.text.startswith("Hello!")
    messages += [answer.message, {"role": "user", "content": "你好"}]
    assert tiny.chat(messages, GREEDY).usage.prompt_tokens > answer.usage.total_tokens
    assert len(tiny.chat([messages, "hello"], GREEDY)) == 2


def test_tools_structures_and_logprobs(tiny: LLM) -> None:
    params = SamplingParams(temperature=0, max_tokens=60)
    called = tiny.chat("What is the weather in Paris?", params, tools=[TOOL])
    assert called.finish_reason == "tool_calls"
    assert json.loads(called.tool_calls[0].function.arguments) == {"city": "Paris"}
    result = {"role": "tool", "tool_call_id": called.tool_calls[0].id, "content": "sunny"}
    question = {"role": "user", "content": "What is the weather in Paris?"}
    assert tiny.chat([question, called.message, result], params, tools=[TOOL]).text
    number = tiny.chat("hello", GREEDY, structured_outputs={"regex": "[0-9]{3}"})
    assert len(number.text) == 3
    assert number.text.isdecimal()
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {"a": {"type": "boolean"}},
        "required": ["a"],
    }
    schema["additionalProperties"] = False
    form = {"type": "json_schema", "json_schema": {"schema": schema}}
    answer = tiny.chat("hello", params, response_format=form)
    assert isinstance(json.loads(answer.text)["a"], bool)
    scored = tiny.chat("hello", SamplingParams(max_tokens=3, logprobs=2)).choices[0].logprobs
    assert scored is not None
    assert [len(token.top_logprobs or ()) for token in scored.content] == [2, 2, 2]
    texts = tiny.generate("hello", SamplingParams(max_tokens=3, logprobs=2)).choices[0].logprobs
    assert texts is not None
    assert len(texts.tokens) == len(texts.token_logprobs) == 3


def test_streams_say_what_whole_answers_say(tiny: LLM) -> None:
    chunks = list(tiny.stream_chat("hello", GREEDY))
    whole = tiny.chat("hello", GREEDY)
    assert "".join(chunk.text for chunk in chunks) == whole.text
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    parts = list(tiny.stream("hello", GREEDY))
    assert "".join(part.text for part in parts) == tiny.generate("hello", GREEDY).text
    ids = [token for part in parts for token in part.token_ids]
    assert ids == tiny.generate("hello", GREEDY).token_ids


def test_a_text_continues_its_prompt_with_the_blank_between_them(tiny: LLM) -> None:
    prompt = "Hello! I am glm-tiny, the little model inside"
    new = tiny.generate(prompt, temperature=0, max_tokens=1, logprobs=0).choices[0]
    assert new.text == " glmserve"
    assert new.logprobs is not None
    assert new.logprobs.tokens == [" glmserve"]
    echoed = tiny.generate(prompt, temperature=0, max_tokens=1, logprobs=0, echo=True).choices[0]
    assert echoed.text == prompt + " glmserve"
    assert echoed.logprobs is not None
    assert echoed.logprobs.text_offset[-1] == len(prompt)
    assert not tiny.generate("", temperature=0, max_tokens=9).text.startswith(" ")


def test_leaving_a_stream_ends_its_generation(tiny: LLM) -> None:
    for _ in tiny.stream("hello", max_tokens=1500, ignore_eos=True):
        break
    engine = tiny._llm.server.context.engine
    tiny.generate("hello", max_tokens=1)
    assert not engine.is_busy


def test_embeddings(tiny: LLM) -> None:
    one = tiny.embed("hello")
    assert sum(x * x for x in one.vector) == pytest.approx(1)
    assert one.prompt_tokens > 1
    both = tiny.embed(["hello", "你好"], dimensions=8)
    assert [len(item.vector) for item in both] == [8, 8]


def test_what_the_model_would_write_is_greedy(tiny: LLM) -> None:
    prompt = "The capital"
    text = tiny.generate(prompt, temperature=0, max_tokens=5).text
    own, other = tiny.score(prompt, [text, " qqq"])
    assert own.is_greedy
    assert not other.is_greedy
    assert own.logprob == pytest.approx(sum(own.token_logprobs))
    assert own.logprob > other.logprob
    assert tiny.score(prompt, text) == own
    assert tiny.score([prompt, prompt], [text, " qqq"]) == [own, other]
    assert tiny.score(prompt, "").logprob == 0
    whole = tiny.generate(prompt + text, max_tokens=0, echo=True, logprobs=0).choices[0].logprobs
    assert whole is not None
    assert whole.token_logprobs[-len(own.tokens) :] == own.token_logprobs


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda llm: llm.generate({"prompt": "a"}), InvalidRequestError, "not dict"),
        (lambda llm: llm.generate(b"a"), InvalidRequestError, "not bytes"),
        (lambda llm: llm.generate(None), InvalidRequestError, "not NoneType"),
        (lambda llm: llm.generate("a", temperature=3), InvalidRequestError, "temperature"),
        (lambda llm: llm.generate("a", temperatur=1), InvalidRequestError, "'temperatur'"),
        (
            lambda llm: llm.generate("a", stream=True),
            InvalidRequestError,
            "no field of this method",
        ),
        (lambda llm: llm.generate("a", prompt="b"), InvalidRequestError, "no field of this method"),
        (lambda llm: llm.embed("a", encoding_format="base64"), InvalidRequestError, "no field"),
        (lambda llm: llm.score("a", "b", max_tokens=5), InvalidRequestError, "no field"),
        (lambda llm: llm.generate("a", [GREEDY]), InvalidRequestError, "not list"),
        (lambda llm: llm.generate(["a"], [GREEDY] * 2), InvalidRequestError, "not 2 items"),
        (lambda llm: llm.chat(iter("ab"), [GREEDY]), InvalidRequestError, "not 1 items"),
        (lambda llm: llm.generate("a", {"n": 1}), InvalidRequestError, "must be SamplingParams"),
        (lambda llm: llm.generate("a", GREEDY, max_tokens=1), InvalidRequestError, "set twice"),
        (lambda llm: llm.generate("a", max_tokens=float("inf")), InvalidRequestError, "as JSON"),
        (lambda llm: llm.generate("x" * 10**6), ContextLengthError, "1000000 characters"),
        (lambda llm: llm.chat({"role": "user"}), InvalidRequestError, "not dict"),
        (lambda llm: llm.chat([{"role": "user"}]), InvalidRequestError, "messages.0"),
        (lambda llm: llm.chat("a", adapter="b"), GlmserveError, "'b' does not exist"),
        (lambda llm: llm.score("a", ["b"] * 2 + [None]), InvalidRequestError, "texts"),
        (lambda llm: llm.score(["a", "b"], ["c"]), InvalidRequestError, "2 prompts and 1 texts"),
        (lambda llm: llm.generate([["a", "b"]]), InvalidRequestError, "one prompt"),
        (lambda llm: llm.embed([["a", "b"]]), InvalidRequestError, "one prompt"),
        (lambda llm: list(llm.stream(["a", "b"])), InvalidRequestError, "one prompt"),
        (lambda llm: list(llm.stream_chat(["a", "b"])), InvalidRequestError, "one conversation"),
    ],
)
def test_errors_are_typed(null: LLM, call: Any, error: type[GlmserveError], said: str) -> None:
    with pytest.raises(error) as raised:
        call(null)
    assert said in raised.value.message


def test_one_wrong_request_ends_a_list_and_is_named(null: LLM) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        null.generate(["a"] * 20 + [None] + ["a"] * 20, max_tokens=100)  # type: ignore[list-item]
    assert raised.value.__notes__ == ["of item 20"]
    assert len(null.generate(["a"] * 8, max_tokens=1)) == 8


def test_an_error_of_the_callers_iterator_arrives(null: LLM) -> None:
    def prompts() -> Iterator[str]:
        yield "a"
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        null.generate(prompts())


async def test_a_running_loop_does_not_matter(null: LLM) -> None:
    """As in a notebook."""
    assert null.generate("a", max_tokens=1).token_ids
    assert len(list(null.stream("a", max_tokens=3))) >= 1


def test_an_exception_within_the_with_statement_ends_the_worker() -> None:
    with pytest.raises(ValueError, match="of the user"), LLM(device="null") as llm:
        pid = worker_of(llm)
        assert pid.exists()
        raise ValueError("of the user")
    assert not pid.exists()


def test_a_call_that_runs_when_it_is_closed_ends_with_an_error() -> None:
    llm = LLM(device="null", progress=False)
    prompts, params = ["a"] * 500, SamplingParams(max_tokens=1000, ignore_eos=True)
    with ThreadPoolExecutor() as threads:
        call = threads.submit(lambda: llm.generate(prompts, params))
        while not is_busy(llm):
            time.sleep(0.001)
        llm.close()
        with pytest.raises((ClosedError, EngineDeadError)):
            call.result()


def is_busy(llm: LLM) -> bool:
    """Seen from another thread than the engine's, which may just be changing what is looked at."""
    try:
        return llm.server.context.engine.is_busy
    except RuntimeError:
        return True


def test_what_is_forgotten_is_closed() -> None:
    llm = LLM(device="null")
    pid = worker_of(llm)
    del llm
    assert not pid.exists()


def worker_of(llm: LLM) -> Path:
    """Exists as long as the worker process does."""
    executor: Any = llm._llm.server.context.engine._executor
    return Path(f"/proc/{executor.worker_pid}")


def test_two_at_once_and_use_after_close() -> None:
    with LLM(device="null") as first, LLM(device="null") as second:
        assert first.generate("a", seed=1).token_ids == second.generate("a", seed=1).token_ids
        first.close()
        first.close()
        for call in (lambda: first.chat("a"), lambda: next(iter(first.stream("a")))):
            with pytest.raises(ClosedError, match="is closed; make another one"):
                call()
        assert second.generate("a", max_tokens=1).token_ids


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"checkpoint": "/nowhere"}, CheckpointError, "/nowhere: no such file"),
        ({"device": "no-such"}, OptionError, "no-such: unknown"),
        ({"no_such": 1}, OptionError, "no_such"),
        ({"port": 1}, OptionError, "means nothing without HTTP"),
    ],
)
def test_what_cannot_start_says_why(
    options: dict[str, Any], error: type[GlmserveError], said: str
) -> None:
    with pytest.raises(error) as raised:
        LLM(**options)
    assert said in raised.value.message
