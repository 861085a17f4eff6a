"""A server without a tokenizer, without stored responses and with a short context."""

from __future__ import annotations

from collections.abc import Iterator

from wire_requests.request import (
    MODEL,
    WireRequest,
    chat,
    get,
    message,
    message_body,
    post,
    response,
    text,
)

OPTIONS = (
    "--device=cpu",
    "--skip-tokenizer-init",
    "--response-store-size=0",
    "--max-model-len=64",
)
_IDS = [300, 301, 302]


def requests() -> Iterator[WireRequest]:
    yield text("ids", prompt=_IDS)
    yield text("ids stream", prompt=_IDS, stream=True)
    yield text("ids logprobs", prompt=_IDS, logprobs=2, echo=True)
    yield text("ids logprobs stream", prompt=_IDS, logprobs=2, echo=True, stream=True)
    yield text("ids several", prompt=[_IDS, [5]], n=2, temperature=1, seed=1)
    yield text("string")
    yield text("stop", prompt=_IDS, stop="e")
    yield text("regex", prompt=_IDS, guided_regex="a")
    yield text("bad words", prompt=_IDS, bad_words=["a"])
    yield text("too long", prompt=[300] * 65)
    yield text("no room", prompt=[300] * 64, max_tokens=None)
    yield text("no room for so many", prompt=[300] * 60)
    yield text("outside", prompt=[2688])
    yield chat("whole")
    yield response("whole")
    yield response("not stored", store=False)
    yield response("stored", store=True)
    yield response("next", previous_response_id="resp_1")
    yield get("response get", "/v1/responses/resp_1")
    yield message("whole")
    count = {name: value for name, value in message_body().items() if name in ("model", "messages")}
    yield post("count", "/v1/messages/count_tokens", count)
    embedding = {"model": MODEL, "encoding_format": "base64"}
    yield post("embedding ids", "/v1/embeddings", embedding | {"input": _IDS})
    yield post("embedding string", "/v1/embeddings", embedding | {"input": "Hello"})
    yield post("tokenize", "/tokenize", {"prompt": "Hello"})
    yield post("detokenize", "/detokenize", {"tokens": _IDS})
    yield get("tokenizer info", "/tokenizer_info")
    yield get("models", "/v1/models")
