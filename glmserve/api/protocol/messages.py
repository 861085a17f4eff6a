"""The messages of a conversation, by role."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from glmserve.api.protocol.accepted.chat import (
    ASSISTANT_MESSAGE,
    FUNCTION_CALL,
    MESSAGE,
    TEXT_PART,
    TOOL_CALL,
)
from glmserve.api.protocol.base import FAIL_FAST, MAX_PARTS, StrictModel, only_type


class TextPart(StrictModel):
    """A piece of a message's content."""

    accepted: ClassVar = TEXT_PART

    type: Literal["text"]
    text: str


class RefusalPart(StrictModel):
    """A piece of an assistant's content that another model produced."""

    type: Literal["refusal"]
    refusal: str

    @property
    def text(self) -> str:
        return self.refusal


_PARTS = Field(max_length=MAX_PARTS)
MAX_CALLS = 256  # of one message
_NAME = "The participant's name; used by a checkpoint's own template."

Content = str | Annotated[list[Annotated[TextPart, only_type("text")]], FAIL_FAST, _PARTS]


class _MessageModel(StrictModel):
    @property
    def text(self) -> str:
        """The content as one string."""
        content: str | list[TextPart | RefusalPart] | None = getattr(self, "content", None)
        if content is None or isinstance(content, str):
            return content or ""
        return "".join(part.text for part in content)


class SystemMessage(_MessageModel):
    """Instructions."""

    accepted: ClassVar = MESSAGE

    role: Literal["developer", "system"]
    content: Content
    name: str | None = Field(None, description=_NAME)


class UserMessage(_MessageModel):
    """What the user says."""

    accepted: ClassVar = MESSAGE

    role: Literal["user"]
    content: Content
    name: str | None = Field(None, description=_NAME)


class FunctionCall(StrictModel):
    """Which function, and with what."""

    accepted: ClassVar = FUNCTION_CALL

    name: str
    arguments: str = Field(description="The text of a JSON object.")


class ToolCallModel(StrictModel):
    """A call that the assistant has made."""

    accepted: ClassVar = TOOL_CALL

    id: str
    type: Literal["function"] = "function"
    function: FunctionCall


class AssistantMessage(_MessageModel):
    """What the model has said or called; content is null beside calls alone."""

    accepted: ClassVar = ASSISTANT_MESSAGE

    role: Literal["assistant"]
    content: str | Annotated[list[TextPart | RefusalPart], FAIL_FAST, _PARTS] | None = None
    refusal: str | None = None
    tool_calls: Annotated[list[ToolCallModel], FAIL_FAST, Field(max_length=MAX_CALLS)] = []
    parsed: object = Field(
        None, description="The content once more, from the openai SDK's parse(); has no effect."
    )
    name: str | None = Field(None, description=_NAME)
    reasoning_content: str | None = Field(
        None, description="What the model thought before; used by a checkpoint's own template."
    )
    reasoning: str | None = Field(None, description="Another name of reasoning_content.")
    prefix: bool = Field(
        False, description="The answer continues this message; true on the last message only."
    )
    partial: bool = Field(False, description="Another name of prefix.")

    @property
    def text(self) -> str:
        return super().text + (self.refusal or "")

    @property
    def is_prefix(self) -> bool:
        """Whether the message asks to be continued."""
        return self.prefix or self.partial


class ToolMessage(_MessageModel):
    """The result of a call."""

    accepted: ClassVar = MESSAGE

    role: Literal["tool"]
    content: Content
    tool_call_id: str
    name: str | None = Field(None, description="The tool's name; known from the call.")


Message = Annotated[
    SystemMessage | UserMessage | AssistantMessage | ToolMessage, Field(discriminator="role")
]
