"""POST /v1/messages and /v1/messages/count_tokens: the requests."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from glmserve.api.protocol.accepted.messages import CACHE_CONTROL, MESSAGES
from glmserve.api.protocol.base import (
    FAIL_FAST,
    INT32_MAX,
    MAX_PARTS,
    MAX_TOOLS,
    StrictModel,
    only_type,
    wrong_field,
)
from glmserve.api.protocol.sampling import StopString
from glmserve.api.protocol.tools import ToolName

_PARTS = Field(max_length=MAX_PARTS)
_MAX_STOP_SEQUENCES = 16


class _Block(StrictModel):
    accepted: ClassVar = CACHE_CONTROL


class TextBlockParam(_Block):
    """A piece of text."""

    type: Literal["text"]
    text: str
    citations: Annotated[list[object], Field(max_length=0)] = []


TextBlocks = Annotated[list[Annotated[TextBlockParam, only_type("text")]], FAIL_FAST, _PARTS]


class ToolUseBlockParam(_Block):
    """A call that the assistant has made."""

    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, Any]


class ToolResultBlockParam(_Block):
    """The result of a call."""

    type: Literal["tool_result"]
    tool_use_id: str
    content: str | TextBlocks = ""
    is_error: bool = Field(False, description="The model reads 'Error: ' in front of the content.")


class UserMessageParam(StrictModel):
    """What the user says, and the results of the user's tools."""

    role: Literal["user"]
    content: (
        str
        | Annotated[
            list[Annotated[TextBlockParam | ToolResultBlockParam, Field(discriminator="type")]],
            FAIL_FAST,
            _PARTS,
        ]
    )


class AssistantMessageParam(StrictModel):
    """What the model has said and called."""

    role: Literal["assistant"]
    content: (
        str
        | Annotated[
            list[Annotated[TextBlockParam | ToolUseBlockParam, Field(discriminator="type")]],
            FAIL_FAST,
            _PARTS,
        ]
    )


class SystemMessageParam(StrictModel):
    """Instructions within the conversation."""

    role: Literal["system"]
    content: str | TextBlocks


MessageParam = Annotated[
    UserMessageParam | AssistantMessageParam | SystemMessageParam, Field(discriminator="role")
]


class ToolParam(_Block):
    """A function the model may call."""

    type: Literal["custom"] = "custom"
    name: ToolName
    description: str | None = None
    input_schema: dict[str, Any] = Field(description="JSON schema of the object of arguments.")
    strict: bool = Field(False, description="Refuse schemas that cannot be guaranteed.")


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


class ThinkingDisabled(StrictModel):
    """These models do not think before they answer."""

    type: Literal["disabled"]


class JsonOutputFormat(StrictModel):
    """JSON that matches a schema."""

    type: Literal["json_schema"]
    schema_: dict[str, Any] = Field(alias="schema")


class OutputConfig(StrictModel):
    """The format of the text."""

    format: JsonOutputFormat | None = None


class CountTokensRequest(StrictModel):
    """The conversation, and what else the model reads."""

    accepted: ClassVar = MESSAGES

    model: str
    messages: Annotated[list[MessageParam], FAIL_FAST, Field(min_length=1, max_length=MAX_PARTS)]
    system: str | TextBlocks | None = None
    tools: Annotated[
        list[Annotated[ToolParam, only_type("custom")]], FAIL_FAST, Field(max_length=MAX_TOOLS)
    ] = []
    tool_choice: (
        Annotated[
            ToolChoiceAuto | ToolChoiceAny | ToolChoiceTool | ToolChoiceNone,
            Field(discriminator="type"),
        ]
        | None
    ) = Field(None, description="Default: auto if there are tools.")
    output_config: OutputConfig = OutputConfig()
    thinking: Annotated[ThinkingDisabled, only_type("disabled")] | None = None

    @model_validator(mode="after")
    def _check_last_message(self) -> Self:
        if self.messages[-1].role == "assistant":
            raise wrong_field(
                "messages",
                "the last message must not be the assistant's: these models begin their answers "
                "themselves",
            )
        return self


class MessagesRequest(CountTokensRequest):
    """Answer the last message of a conversation."""

    max_tokens: int = Field(ge=1, le=INT32_MAX)
    temperature: float = Field(1.0, ge=0, le=1, description="0 always takes the most likely token.")
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=0, le=INT32_MAX, description="0: no limit.")
    stop_sequences: Annotated[
        list[Annotated[StopString, Field(min_length=1)]],
        FAIL_FAST,
        Field(max_length=_MAX_STOP_SEQUENCES),
    ] = []
    stream: bool = False
    service_tier: Literal["auto", "standard_only"] = "auto"
