"""A chat format of a model that reasons before it answers."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from glmserve.text.chat_format import ChatMessage
from glmserve.text.tools import Tool
from support.fakes import PlainChat


class ThinkingChat(PlainChat):
    """Messages one after another, and the tag of open thoughts."""

    reasons = True
    lead_in = r"\n{0,2}"
    end = "<think>"

    def with_variables(self, variables: Mapping[str, Any]) -> ThinkingChat:
        bound = copy.copy(self)
        bound.end = "<think></think>" if variables.get("enable_thinking") is False else "<think>"
        return bound

    def _render(self, messages: Sequence[ChatMessage], tools: Sequence[Tool]) -> list[int]:
        return [*super()._render(messages, tools), *self.tokenizer.encode(self.end)]
