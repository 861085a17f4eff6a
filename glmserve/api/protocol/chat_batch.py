"""POST /v1/chat/completions/batch"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from glmserve.api.protocol.base import FAIL_FAST, wrong_field
from glmserve.api.protocol.chat import ChatCompletionRequest, ChatFields, Conversation
from glmserve.api.protocol.parsing import parse_data
from glmserve.api.protocol.tools import AnyTool
from glmserve.errors import InvalidRequestError

_MAX_CONVERSATIONS = 128
"""As many as choices of one conversation."""


class ChatBatchRequest(ChatFields):
    """Answer the last message of each of several conversations."""

    messages: Annotated[
        list[Conversation], FAIL_FAST, Field(min_length=1, max_length=_MAX_CONVERSATIONS)
    ]
    tools: list[AnyTool] = Field([], description="There are no calls in a batch.")
    tool_choice: Literal["none"] | None = None
    stream: bool = Field(False, description="A batch is not streamed.")
    n: Literal[1] = 1
    prompt_logprobs: None = None

    @model_validator(mode="after")
    def _check_possible(self) -> Self:
        for name in ("stream", "tools"):
            if getattr(self, name):
                raise wrong_field(name, "not in a batch; send each conversation by itself")
        return self

    def conversations(self) -> list[ChatCompletionRequest]:
        """A request for each conversation, the same in everything else.

        Raises:
            InvalidRequestError: one of them contradicts the other fields, or some answers would
                continue a message, and others would not.
        """
        fields = {name: getattr(self, name) for name in self.model_fields_set - {"messages"}}
        chats = [
            parse_data(ChatCompletionRequest, {**fields, "messages": messages})
            for messages in self.messages
        ]
        if len({chat.continues_last for chat in chats}) > 1:
            raise InvalidRequestError(
                "messages: some conversations end with a message of the assistant, which is "
                "continued, and others do not; send them in two requests",
                "messages",
            )
        return chats
