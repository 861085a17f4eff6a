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


class SearchResultBlockParam(StrictModel):
    """A result of the client's own search. The model reads its title and source, and the text."""

    accepted: ClassVar = DOCUMENT_BLOCK

    type: Literal["search_result"]
    source: str
    title: str
    content: TextBlocks

    @property
    def text(self) -> str:
        """What the model reads."""
        parts = (self.title, self.source, *(block.text for block in self.content))
        return "\n".join(parts) + "\n"


class ToolReferenceBlockParam(StrictModel):
    """A tool that the client has found. All tools are shown; the model reads the name."""

    accepted: ClassVar = CACHE_CONTROL

    type: Literal["tool_reference"]
    tool_name: str

    @property
    def text(self) -> str:
        """What the model reads."""
        return self.tool_name + "\n"


class ToolUseBlockParam(StrictModel):
    """A call that the assistant has made."""

    accepted: ClassVar = TOOL_USE_BLOCK

    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, Any]


ResultBlock = TextBlockParam | DocumentBlockParam | SearchResultBlockParam | ToolReferenceBlockParam


class ToolResultBlockParam(StrictModel):
    """The result of a call."""

    accepted: ClassVar = CACHE_CONTROL

    type: Literal["tool_result"]
    tool_use_id: str
    content: (
        str
        | Annotated[
            list[Annotated[ResultBlock, Field(discriminator="type")]],
            FAIL_FAST,
            PARTS,
        ]
    ) = ""
    is_error: bool = Field(False, description="The model reads 'Error: ' in front of the content.")


class ThinkingBlockParam(BaseModel):
    """How a model came to its answer. Prompts have no place for earlier thoughts: it is left
    out."""

    model_config = ConfigDict(strict=True, extra="ignore")

    type: Literal["thinking", "redacted_thinking"]


class UnreadableBlockParam(BaseModel):
    """What Anthropic's own tools have done. It is left out, whatever its fields are."""

    model_config = ConfigDict(strict=True, extra="ignore")

    type: Literal[
        "advisor_tool_result",
        "bash_code_execution_tool_result",
        "code_execution_tool_result",
        "compaction",
        "container_upload",
        "mcp_tool_result",
        "mcp_tool_use",
        "server_tool_use",
        "text_editor_code_execution_tool_result",
        "tool_search_tool_result",
        "web_fetch_tool_result",
        "web_search_tool_result",
    ]


UserBlock = (
    TextBlockParam
    | DocumentBlockParam
    | SearchResultBlockParam
    | ToolResultBlockParam
    | UnreadableBlockParam
)
AssistantBlock = TextBlockParam | ToolUseBlockParam | ThinkingBlockParam | UnreadableBlockParam
