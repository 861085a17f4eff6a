"""Finds out by example which of glmserve's chat formats a template writes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import takewhile

from glmserve.errors import CheckpointError
from glmserve.text.chat_format import ChatFormat, ChatMessage
from glmserve.text.fine_tuned_formats import (
    ChatMLFormat,
    ChatMLPrefixFormat,
    GLM4OpenLineFormat,
    GLMEdgeFormat,
    GLMEdgeOpenLineFormat,
)
from glmserve.text.glm4_0414_formats import (
    GLM40414FirstLineFormat,
    GLM40414Format,
    GLM40414LineFormat,
    GLM40414OpenLineFormat,
    GLMZ1Format,
    GLMZ1ToolsFormat,
)
from glmserve.text.plain_formats import ChatGLM2Format, ChatGLMFormat, PlainFormat
from glmserve.text.role_formats import ChatGLM3Format, GLM4Format
from glmserve.text.templates.renderer import TemplateError
from glmserve.text.templates.template_format import TemplateFormat
from glmserve.text.tokenizer import Tokenizer
from glmserve.text.tools import Tool, ToolCall, tagged

_CANDIDATES: tuple[type[ChatFormat], ...] = (
    GLM4Format,
    GLM4OpenLineFormat,
    GLM40414Format,
    GLM40414LineFormat,
    GLM40414FirstLineFormat,
    GLM40414OpenLineFormat,
    GLMZ1Format,
    GLMZ1ToolsFormat,
    GLMEdgeFormat,
    GLMEdgeOpenLineFormat,
    ChatGLM3Format,
    ChatMLFormat,
    ChatMLPrefixFormat,
    ChatGLM2Format,
    ChatGLMFormat,
)

_USER, _ANSWER = ChatMessage("user", "Who are you?"), ChatMessage("assistant", "A model.")
_NEXT, _SYSTEM = ChatMessage("user", "Which one?"), ChatMessage("system", "Answer briefly.")

_ROUNDS = [[_USER], [_USER, _ANSWER, _NEXT], [_USER, _ANSWER, _NEXT, _ANSWER, _USER]]
_WITH_ROLES = [
    [_SYSTEM, _USER],
    [_SYSTEM, _USER, _ANSWER, _NEXT],
    [_USER, _SYSTEM, _USER],
    [_USER, ChatMessage("assistant", ""), _NEXT],
]
_SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
_TOOLS = [Tool(f"glmserve_probe_{n}", f"The weather {n}", _SCHEMA) for n in ("one", "two")]


def check_messages(template: TemplateFormat) -> None:
    """Check that the template writes something of a message.

    Raises:
        TemplateError: it does not, or cannot be rendered.
    """
    if template.rendered([_USER]) == template.rendered([_NEXT]):
        raise TemplateError("it writes the same for different messages")


def recognise(template: TemplateFormat) -> ChatFormat | None:
    """The format that writes the same tokens as the template, or None.

    A template that refuses a conversation with a system message may still be known. If it writes
    the tools itself, these must be the same, too.

    Raises:
        TemplateError: the template cannot write even one question.
    """
    rounds = [template.encoded(template.rendered(probe)) for probe in _ROUNDS]
    with_roles = [_encoded_or_none(template, probe) for probe in _WITH_ROLES]
    tools = _encoded_tools(template)
    for candidate in _formats(template.tokenizer):
        if not all(_equals(candidate, *pair) for pair in zip(_ROUNDS, rounds, strict=True)):
            continue
        if isinstance(candidate, PlainFormat):
            return candidate
        if isinstance(candidate, ChatGLM3Format):
            # Its template writes the blank that the tokenizer adds to a text, even without a text.
            pairs = zip(_WITH_ROLES[:-1], with_roles, strict=False)
        else:
            pairs = zip(_WITH_ROLES, with_roles, strict=True)
        if all(ids is None or _equals(candidate, probe, ids) for probe, ids in pairs) and (
            tools is None or candidate.render([_USER], _TOOLS) == tools
        ):
            return candidate
    return None


def turn_ends(template: TemplateFormat) -> list[str]:
    """Names of the special tokens that the template writes behind the assistant's messages.

    Raises:
        TemplateError: the template cannot be rendered.
    """
    text = template.rendered([_USER, _ANSWER, _NEXT])
    behind = text.partition(_ANSWER.content)[2].partition(_NEXT.content)[0]
    return template.special_names(behind)[:1]


def writes_tagged_calls(template: TemplateFormat) -> bool:
    """Whether the template writes tools, and calls in the form that TaggedParser reads."""
    call = ToolCall("call_1", _TOOLS[0].name, '{"city": "Paris"}')
    result = ChatMessage("tool", "It rains.", tool_call_id="call_1")
    messages = [_USER, ChatMessage("assistant", "", (call,)), result]
    try:
        text = template.rendered(messages, _TOOLS)
    except TemplateError:
        return False
    written = re.sub(r"\s", "", tagged.call_text(call))
    calls = re.findall(f"{tagged.OPEN}.*?{tagged.CLOSE}", re.sub(r"\s", "", text))
    return text.count(_TOOLS[1].name) == 1 and written in calls and result.content in text


def _formats(tokenizer: Tokenizer) -> Iterator[ChatFormat]:
    """The candidates for which the tokenizer has the tokens."""
    for candidate in _CANDIDATES:
        try:
            yield candidate(tokenizer)
        except CheckpointError:
            continue


def _encoded_or_none(template: TemplateFormat, probe: Sequence[ChatMessage]) -> list[int] | None:
    try:
        return template.encoded(template.rendered(probe))
    except TemplateError:
        return None


def _encoded_tools(template: TemplateFormat) -> list[int] | None:
    """Token ids of a conversation with tools; None if the template does not write tools."""
    try:
        text = template.rendered([_USER], _TOOLS)
    except TemplateError:
        return None
    return template.encoded(text) if _TOOLS[0].name in text else None


def _equals(candidate: ChatFormat, probe: Sequence[ChatMessage], ids: list[int]) -> bool:
    own = candidate.render(probe)
    if own == ids:
        return True
    if not isinstance(candidate, PlainFormat):
        return False
    # transformers adds no [gMASK] and sop around what a template writes, but the models need them.
    marks = candidate.tokenizer.encode_prompt("")
    pairs = zip(own, marks, strict=False)
    leading = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    return own[leading : len(own) - (len(marks) - leading)] == ids
