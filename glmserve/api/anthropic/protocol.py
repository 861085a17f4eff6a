"""POST /v1/messages and /v1/messages/count_tokens: the requests."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from glmserve.api.anthropic.blocks import (
    PARTS,
    AssistantBlock,
    TextBlocks,
    UnreadableBlockParam,
    UserBlock,
)
from glmserve.api.anthropic.tools import AnyToolParam, ServerToolParam
from glmserve.api.protocol.accepted.messages import MESSAGES, OUTPUT_CONFIG
from glmserve.api.protocol.base import (
    FAIL_FAST,
    INT32_MAX,
    MAX_PARTS,
    MAX_TOOLS,
    StrictModel,
    wrong_field,
)
from glmserve.api.protocol.sampling import StopString
from glmserve.api.protocol.tools import ToolName

_MAX_STOP_SEQUENCES = 16


class UserMessageParam(StrictModel):
    """What the user says, and the results of the user's tools."""

    role: Literal["user"]
    content: (
        str
        | Annotated[
            list[Annotated[UserBlock, Field(discriminator="type")]],
            FAIL_FAST,
            PARTS,
        ]
    )


class AssistantMessageParam(StrictModel):
    """What the model has said and called."""

    role: Literal["assistant"]
    content: (
        str
        | Annotated[
            list[Annotated[AssistantBlock, Field(discriminator="type")]],
            FAIL_FAST,
            PARTS,
        ]
    )


class SystemMessageParam(StrictModel):
    """Instructions within the conversation."""

    role: Literal["system"]
    content: str | TextBlocks


MessageParam = Annotated[
    UserMessageParam | AssistantMessageParam | SystemMessageParam, Field(discriminator="role")
]


class ToolChoiceAuto(StrictModel):
    """The model decides."""

    type: Literal["auto"]
    disable_parallel_tool_use: bool = False


class ToolChoiceAny(StrictModel):
    """Some tool must be called."""

    type: Literal["any"]
    disable_parallel_tool_use: bool = False


class ToolChoiceTool(StrictModel):
    """This tool must be called."""

    type: Literal["tool"]
    name: ToolName
    disable_parallel_tool_use: bool = False


class ToolChoiceNone(StrictModel):
    """No tool may be called."""

    type: Literal["none"]
    disable_parallel_tool_use: bool = Field(False, description="No effect.")


class JsonOutputFormat(StrictModel):
    """JSON that matches a schema."""

    type: Literal["json_schema"]
    schema_: dict[str, Any] = Field(alias="schema")


class OutputConfig(StrictModel):
    """The format of the text."""

    accepted: ClassVar = OUTPUT_CONFIG

    format: JsonOutputFormat | None = None


class CountTokensRequest(StrictModel):
    """The conversation, and what else the model reads."""

    accepted: ClassVar = MESSAGES

    model: str
    messages: Annotated[list[MessageParam], FAIL_FAST, Field(min_length=1, max_length=MAX_PARTS)]
    system: str | TextBlocks | None = None
    tools: Annotated[list[AnyToolParam], FAIL_FAST, Field(max_length=MAX_TOOLS)] = []
    tool_choice: (
        Annotated[
            ToolChoiceAuto | ToolChoiceAny | ToolChoiceTool | ToolChoiceNone,
            Field(discriminator="type"),
        ]
        | None
    ) = Field(None, description="Default: auto if there are tools.")
    output_config: OutputConfig = OutputConfig()
    output_format: JsonOutputFormat | None = Field(
        None, description="The old name of output_config.format."
    )
    thinking: dict[str, Any] | None = Field(
        None,
        description='{"type": "disabled"}: do not think. Other types change nothing: a model that '
        "reasons does so.",
    )
    mcp_servers: Annotated[list[dict[str, Any]], Field(max_length=MAX_TOOLS)] = Field(
        [], description="Tools of these servers do not exist here; they are left out."
    )
    thread: dict[str, Any] | None = Field(
        None, description="Refused with the code after which the SDK sends the whole conversation."
    )

    @model_validator(mode="after")
    def _check_formats(self) -> Self:
        if self.output_format and self.output_config.format:
            raise wrong_field(
                "output_format", "the old name of output_config.format; send one of them"
            )
        return self


class MessagesRequest(CountTokensRequest):
    """Answer the last message of a conversation."""

    max_tokens: int = Field(ge=1, le=INT32_MAX)
    temperature: float = Field(1.0, ge=0, le=1, description="0 always takes the most likely token.")
    top_p: float = Field(1.0, ge=0, le=1)
    top_k: int = Field(0, ge=0, le=INT32_MAX, description="0: no limit.")
    stop_sequences: Annotated[
        list[Annotated[StopString, Field(min_length=1)]],
        FAIL_FAST,
        Field(max_length=_MAX_STOP_SEQUENCES),
    ] = []
    stream: bool = False
    service_tier: Literal["auto", "standard_only"] = "auto"


def left_out(request: CountTokensRequest) -> list[str]:
    """The types of tools and blocks that do not exist here, each once."""
    unknown = (ServerToolParam, UnreadableBlockParam)
    blocks = [b for m in request.messages if not isinstance(m.content, str) for b in m.content]
    types = [each.type for each in (*request.tools, *blocks) if isinstance(each, unknown)]
    return list(dict.fromkeys([*types, *["mcp_servers"] * bool(request.mcp_servers)]))
