"""/v1/completions"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from wire_requests.refused_fields import GENERATION
from wire_requests.request import PERSON_SCHEMA, WireRequest, refusals, text

USAGE = {"include_usage": True}


def requests() -> Iterator[WireRequest]:
    yield from _answers()
    yield from _structures()
    yield from refusals(text, [*GENERATION, *_REFUSED])


def _answers() -> Iterator[WireRequest]:
    yield text("whole")
    yield text("stream", stream=True)
    yield text("stream usage", stream=True, stream_options=USAGE)
    yield text("empty", prompt="")
    yield text("ids", prompt=[300, 301, 302])
    yield text("several", prompt=["One", "Two"], n=2, temperature=1, seed=5)
    yield text("several ids", prompt=[[300, 301], [302]])
    yield text("echo", echo=True)
    yield text("echo stream", echo=True, stream=True)
    yield text("echo logprobs", echo=True, logprobs=2)
    yield text("echo logprobs stream", echo=True, logprobs=1, stream=True)
    yield text("echo alone", echo=True, logprobs=1, max_tokens=0)
    yield text("echo ids", echo=True, prompt=[300, 301])
    yield text("logprobs", logprobs=3)
    yield text("logprobs zero stream", logprobs=0, stream=True)
    yield text("choices", n=2, temperature=1, seed=9)
    yield text("best of", n=2, best_of=4, temperature=1, seed=9)
    yield text("best of logprobs", n=1, best_of=3, temperature=1, seed=2, logprobs=1)
    yield text("stop", stop="e", max_tokens=32)
    yield text("stop stream", stop=["e", "a"], max_tokens=32, stream=True)
    yield text("stop kept stream", stop="e", include_stop_str_in_output=True, stream=True)
    yield text("stop token", stop_token_ids=list(range(300, 1300)), logprobs=1)
    yield text("token ids", return_token_ids=True)
    yield text("token ids stream", return_token_ids=True, stream=True)
    yield text("default limit", max_tokens=None)
    yield text("special tokens", skip_special_tokens=False, echo=True)
    yield text("penalties", repetition_penalty=1.5, presence_penalty=-1, frequency_penalty=1)
    yield text("sampled stream", temperature=1.2, top_k=50, top_p=0.9, seed=-4, stream=True)
    yield text("long", max_tokens=64, stream=True)
    yield text("end", ignore_eos=False, logprobs=1, return_token_ids=True)
    yield text("end stream", ignore_eos=False, logprobs=1, return_token_ids=True, stream=True)


def _structures() -> Iterator[WireRequest]:
    ends = {"ignore_eos": False}
    yield text("schema", structured_outputs={"json": PERSON_SCHEMA}, max_tokens=16, **ends)
    yield text("json", structured_outputs={"json_object": True}, max_tokens=16, **ends)
    yield text("guided schema", guided_json=PERSON_SCHEMA, max_tokens=16, stream=True, **ends)
    yield text("guided regex", guided_regex="[0-9]{4}", **ends)
    yield text("guided grammar", guided_grammar='root ::= "yes" | "no"', **ends)
    yield text("bad words", bad_words=["e"], logprobs=1)


_REFUSED: tuple[dict[str, Any], ...] = (
    {"prompt": None},
    {"prompt": []},
    {"prompt": 5},
    {"prompt": ["a", 1]},
    {"prompt": [True]},
    {"prompt": [[]]},
    {"prompt": [-1]},
    {"prompt": [2688]},
    {"prompt": [["a"]]},
    {"prompt": ["x"] * 2049},
    {"prompt": ["x"] * 1025, "n": 2},
    {"prompt": [300] * 2048},
    {"prompt": [300] * 2047, "max_tokens": 2},
    {"prompt": [300] * 2048, "max_tokens": None},
    {"prompt": "x" * 70000},
    {"max_tokens": 0},
    {"echo": "yes"},
    {"logprobs": 21},
    {"logprobs": True},
    {"logprobs": 20, "n": 128, "max_tokens": 2000},
    {"best_of": 0},
    {"best_of": 129},
    {"best_of": 1, "n": 2},
    {"best_of": 2, "stream": True},
    {"suffix": "x"},
    {"messages": []},
    {"response_format": {"type": "json_object"}},
)
