"""/tokenize, /detokenize and /tokenizer_info"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from wire_requests.chat import WEATHER
from wire_requests.request import HELLO, MODEL, WireRequest, get, post, refusals


def tokenize(name: str, **fields: Any) -> WireRequest:
    return post(f"tokenize {name}", "/tokenize", fields)


def detokenize(name: str, **fields: Any) -> WireRequest:
    return post(f"detokenize {name}", "/detokenize", fields)


def requests() -> Iterator[WireRequest]:
    yield tokenize("prompt", model=MODEL, prompt="Hello, 世界")
    yield tokenize("strings", prompt="Hello, 世界", return_token_strs=True)
    yield tokenize("plain", prompt="Hello", add_special_tokens=False)
    yield tokenize("messages", messages=HELLO)
    yield tokenize("tools", messages=HELLO, tools=[WEATHER], return_token_strs=True)
    yield from refusals(tokenize, _REFUSED)
    yield detokenize("ids", model=MODEL, tokens=[300, 301, 302])
    yield detokenize("none", tokens=[])
    yield from refusals(detokenize, _REFUSED_IDS)
    yield get("tokenizer info", "/tokenizer_info")
    yield get("tokenizer info post", "/tokenizer_info", "POST")
    yield get("tokenize get", "/tokenize")


_REFUSED: tuple[dict[str, Any], ...] = (
    {},
    {"prompt": "x", "model": "gpt-4"},
    {"prompt": "x", "messages": HELLO},
    {"prompt": "x", "add_generation_prompt": True},
    {"prompt": "x", "tools": []},
    {"prompt": 5},
    {"messages": []},
    {"messages": HELLO, "add_special_tokens": True},
    {"messages": HELLO, "add_generation_prompt": False},
    {"messages": HELLO, "tools": [WEATHER, WEATHER]},
    {"prompt": "x" * (2**20 + 1)},
)
_REFUSED_IDS: tuple[dict[str, Any], ...] = (
    {},
    {"tokens": [999999]},
    {"tokens": [-1]},
    {"tokens": "x"},
    {"tokens": [300], "model": "gpt-4"},
)
