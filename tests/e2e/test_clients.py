"""Real clients against a real server: the openai SDK and curl."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator

import openai
import pytest

from support.server_process import ServerProcess

QUESTION = [{"role": "user", "content": "Hello! Who are you?"}]


@pytest.fixture
def sdk(glm_tiny: ServerProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{glm_tiny.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_sdk_chat(sdk: openai.OpenAI) -> None:
    answer = sdk.chat.completions.create(model="glm-tiny", messages=QUESTION, temperature=0)  # type: ignore[call-overload]
    choice = answer.choices[0]
    assert choice.finish_reason == "stop"
    assert "glm" in choice.message.content.lower()
    assert answer.usage.completion_tokens > 3


def test_sdk_stream_equals_whole(sdk: openai.OpenAI) -> None:
    whole = sdk.chat.completions.create(model="glm-tiny", messages=QUESTION, temperature=0)  # type: ignore[call-overload]
    stream = sdk.chat.completions.create(  # type: ignore[call-overload]
        model="glm-tiny",
        messages=QUESTION,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage or chunks[-1].usage.total_tokens > 0


async def test_sdk_async_stream(glm_tiny: ServerProcess) -> None:
    async with openai.AsyncOpenAI(base_url=f"{glm_tiny.url}/v1", api_key="none") as client:
        stream = await client.chat.completions.create(  # type: ignore[call-overload]
            model="glm-tiny", messages=QUESTION, temperature=0, stream=True
        )
        pieces = [chunk.choices[0].delta.content or "" async for chunk in stream]
    assert len(pieces) > 5


def test_sdk_completions_and_models(sdk: openai.OpenAI) -> None:
    assert [model.id for model in sdk.models.list()] == ["glm-tiny"]
    answer = sdk.completions.create(
        model="glm-tiny", prompt="[Round 1]\n\n问：你好\n\n答：", max_tokens=30, temperature=0
    )
    assert answer.choices[0].text.strip()


def test_sdk_errors_carry_the_field(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.chat.completions.create(model="glm-tiny", messages=QUESTION, temperature=9)  # type: ignore[call-overload]
    assert caught.value.param == "temperature"
    with pytest.raises(openai.NotFoundError):
        sdk.chat.completions.create(model="gpt-5", messages=QUESTION)  # type: ignore[call-overload]


def test_the_printed_curl_line_works(glm_tiny: ServerProcess) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    line = next(line for line in glm_tiny.output if line.strip().startswith("curl"))
    result = subprocess.run(shlex.split(line), capture_output=True, text=True, timeout=60)
    assert result.stdout.rstrip().endswith("data: [DONE]")


def test_chunks_arrive_as_they_are_made(glm_tiny: ServerProcess) -> None:
    """The first chunk is here long before the last one."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    body = {
        "model": "glm-tiny",
        "stream": True,
        "ignore_eos": True,
        "max_tokens": 400,
        "messages": QUESTION,
    }
    url = f"{glm_tiny.url}/v1/chat/completions"
    headers = ["-H", "Content-Type: application/json"]
    with subprocess.Popen(
        ["curl", "-sN", url, *headers, "-d", json.dumps(body)], stdout=subprocess.PIPE, text=True
    ) as curl:
        assert curl.stdout is not None
        times = [time.monotonic() for line in curl.stdout if line.startswith("data: ")]
    assert len(times) > 100
    middle = times[len(times) // 2]
    assert times[0] < middle < times[-1]
    assert middle - times[0] > 0.2 * (times[-1] - times[0])
