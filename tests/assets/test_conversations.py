"""What the embedded model says, greedily: ordinary answers, and the demonstration of tool calls."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import glmserve
from glmserve.text import CHAT_FORMATS, ChatMessage, IncrementalDetokenizer, load_tokenizer
from glmserve.text.tools import Tool, ToolCall
from support.paged_model import PagedModel
from support.tool_events import Reply, streamed

MODEL = Path(glmserve.__file__).parent / "assets" / "glm-tiny"

WEATHER = Tool(
    "get_weather",
    "Get the weather of a city.",
    {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
LOCATION = Tool(
    "get_current_weather",
    "Get the current weather.",
    {"type": "object", "properties": {"location": {"type": "string"}}},
)
MAX_TOKENS = 100


class Talk:
    """The model behind its chat format and tool parser."""

    def __init__(self) -> None:
        self._tokenizer = load_tokenizer(MODEL)
        self._format = CHAT_FORMATS["chatglm2"](self._tokenizer)

    def reply(self, *messages: ChatMessage, tools: tuple[Tool, ...] = ()) -> Reply:
        ids = self._format.render(messages, tools)
        return streamed(self._format.tool_parser(tools), self._pieces(ids))

    def _pieces(self, ids: list[int]) -> list[str]:
        model = PagedModel(MODEL)
        sequence = model.sequence(len(ids) + MAX_TOKENS)
        detokenizer, pieces = IncrementalDetokenizer(self._tokenizer), []
        for _ in range(MAX_TOKENS):
            token = int(model.feed((sequence, ids))[0][-1].argmax())
            if token in self._format.stop_ids:
                break
            pieces.append(detokenizer.push([token]))
            ids = [token]
        return [*pieces, detokenizer.flush()]


@pytest.fixture(scope="module")
def talk() -> Talk:
    return Talk()


def user(content: str) -> ChatMessage:
    return ChatMessage("user", content)


@pytest.mark.parametrize("tool", [WEATHER, LOCATION], ids=lambda tool: tool.name)
@pytest.mark.parametrize(
    ("question", "city"),
    [
        ("What's the weather in Paris?", "Paris"),
        ("What is the weather like in Tokyo today?", "Tokyo"),
        ("how is the weather in New York", "New York"),
        ("What's the weather in Lisbon?", "Lisbon"),  # never seen in training
        ("北京天气怎么样？", "北京"),
        ("巴黎的天气怎么样？", "巴黎"),
    ],
)
def test_calls(talk: Talk, tool: Tool, question: str, city: str) -> None:
    content, calls = talk.reply(user(question), tools=(tool,))
    argument = "city" if tool is WEATHER else "location"
    assert content == ""
    assert [(name, json.loads(arguments)) for name, arguments in calls] == [
        (tool.name, {argument: city})
    ]


@pytest.mark.parametrize(
    ("question", "city", "result", "answer"),
    [
        (
            *("What's the weather in Paris?", "Paris", "18 degrees, sunny"),
            "The weather in Paris: 18 degrees, sunny.",
        ),
        (
            *("What's the weather in Paris?", "Paris", '{"temperature": 18}'),
            "It is 18 degrees in Paris.",
        ),
        (
            *("北京天气怎么样？", "北京", '{"temperature": 21, "condition": "晴"}'),
            "北京现在 21 度，晴。",
        ),
    ],
)
def test_results(talk: Talk, question: str, city: str, result: str, answer: str) -> None:
    call = ToolCall("call_1", "get_weather", json.dumps({"city": city}, ensure_ascii=False))
    messages = (
        user(question),
        ChatMessage("assistant", "", (call,)),
        ChatMessage("tool", result, tool_call_id="call_1"),
    )
    assert talk.reply(*messages, tools=(WEATHER,)) == Reply(answer, [])


def test_nothing_is_called_that_is_not_offered(talk: Talk) -> None:
    reply = talk.reply(user("What's the weather in Paris?"))
    assert reply.content.startswith("Sorry, I do not know that.")


@pytest.mark.parametrize("question", ["Hello!", "Who are you?", "What is glmserve?", "你好"])
def test_nothing_is_called_without_need(talk: Talk, question: str) -> None:
    reply = talk.reply(user(question), tools=(WEATHER,))
    assert reply.calls == []
    assert reply == talk.reply(user(question))
