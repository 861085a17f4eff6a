"""The blocks that the messages of a request consist of."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from glmserve.api.protocol.accepted.messages import (
    CACHE_CONTROL,
    DOCUMENT_BLOCK,
    TEXT_BLOCK,
    TOOL_USE_BLOCK,
)
from glmserve.api.protocol.base import FAIL_FAST, MAX_PARTS, StrictModel, only_type

PARTS = Field(max_length=MAX_PARTS)


class TextBlockParam(StrictModel):
    """A piece of text."""

    accepted: ClassVar = TEXT_BLOCK

    type: Literal["text"]
    text: str


TextBlocks = Annotated[list[Annotated[TextBlockParam, only_type("text")]], FAIL_FAST, PARTS]


class PlainTextSource(StrictModel):
    """The text of a document."""

    type: Literal["text"]
    media_type: Literal["text/plain"] = "text/plain"
    data: str


class DocumentBlockParam(StrictModel):
    """A document as text. The model reads its title and its context, and then the text."""

    accepted: ClassVar = DOCUMENT_BLOCK

    type: Literal["document"]
    source: Annotated[PlainTextSource, only_type("text")]
    title: str | None = None
    context: str | None = None

    @property
    def text(self) -> str:
        """What the model reads."""
        parts = (self.title, self.context, self.source.data)
        return "\n".join(part for part in parts if part) + "\n"


class ToolUseBlockParam(StrictModel):
    """A call that the assistant has made."""

    accepted: ClassVar = TOOL_USE_BLOCK

    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, Any]


class ToolResultBlockParam(StrictModel):
    """The result of a call."""

    accepted: ClassVar = CACHE_CONTROL

    type: Literal["tool_result"]
    tool_use_id: str
    content: (
        str
        | Annotated[
            list[Annotated[TextBlockParam | DocumentBlockParam, Field(discriminator="type")]],
            FAIL_FAST,
            PARTS,
        ]
    ) = ""
    is_error: bool = Field(False, description="The model reads 'Error: ' in front of the content.")


class ThinkingBlockParam(BaseModel):
    """How another model came to its answer. These models have no place for it: it is left out."""

    model_config = ConfigDict(strict=True, extra="ignore")

    type: Literal["thinking", "redacted_thinking"]


UserBlock = TextBlockParam | DocumentBlockParam | ToolResultBlockParam
AssistantBlock = TextBlockParam | ToolUseBlockParam | ThinkingBlockParam
