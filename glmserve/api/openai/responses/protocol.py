"""POST /v1/responses: the request."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from glmserve.api.openai.responses.input_items import InputItem
from glmserve.api.protocol.accepted.responses import RESPONSES
from glmserve.api.protocol.base import (
    FAIL_FAST,
    INT32_MAX,
    MAX_PARTS,
    MAX_TOOLS,
    StrictModel,
    only_type,
    wrong_field,
)
from glmserve.api.protocol.chat import JsonObjectFormat, JsonSchemaSpec, TextFormat
from glmserve.api.protocol.sampling import GenerationRequest, Metadata, StreamOptions
from glmserve.api.protocol.tools import FunctionModel, ToolName

_NO_EFFECT = "Given back in the response; has no other effect."
_MAX_INCLUDED = 16

LOGPROBS = "message.output_text.logprobs"


class FlatJsonSchemaFormat(JsonSchemaSpec):
    """JSON that matches a schema."""

    type: Literal["json_schema"]


class TextConfig(StrictModel):
    """The format of the text."""

    format: Annotated[
        TextFormat | JsonObjectFormat | FlatJsonSchemaFormat, Field(discriminator="type")
    ] = TextFormat(type="text")
    verbosity: Literal["medium"] = "medium"


class FlatTool(FunctionModel):
    """A function the model may call."""

    type: Literal["function"]


class FlatNamedTool(StrictModel):
    """One of the tools."""

    type: Literal["function"]
    name: ToolName


class FlatAllowedTools(StrictModel):
    """Some of the tools, and whether one of them must be called."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: Annotated[
        list[Annotated[FlatNamedTool, only_type("function")]],
        FAIL_FAST,
        Field(min_length=1, max_length=MAX_TOOLS),
    ]


class ReasoningConfig(StrictModel):
    """These models do not reason."""

    effort: Literal["none"] = "none"
    summary: None = None


class ResponseStreamOptions(StreamOptions):
    """How a stream is delivered."""

    include_usage: Literal[False] = Field(
        False, description="Not here: the last event of every stream has the token counts."
    )
    continuous_usage_stats: Literal[False] = Field(
        False, description="Not here: the last event of every stream has the token counts."
    )


def _check_input(value: Any) -> Any:
    """Check the kind of the input; a union would report an error per member."""
    if not isinstance(value, str | list):
        raise ValueError("must be a string or a list of items")
    if not value and isinstance(value, list):
        raise ValueError("must not be empty")
    return value


class ResponsesRequest(GenerationRequest):
    """Answer the input. Fields that OpenAI does not have are those of /v1/chat/completions."""

    accepted: ClassVar = RESPONSES

    input: Annotated[
        str | Annotated[list[InputItem], FAIL_FAST, Field(max_length=MAX_PARTS)],
        BeforeValidator(_check_input),
    ]
    instructions: str | None = Field(
        None, description="System text of this response alone; a next one does not inherit it."
    )
    max_output_tokens: Annotated[int, Field(ge=1, le=INT32_MAX)] | None = None
    max_tokens: None = Field(None, description="Not here: this is max_output_tokens.")
    n: Literal[1] = 1
    prompt_logprobs: None = None
    return_tokens_as_token_ids: Literal[False] = False
    return_token_ids: Literal[False] = False
    stream_options: ResponseStreamOptions | None = None
    text: TextConfig = TextConfig()
    tools: Annotated[
        list[Annotated[FlatTool, only_type("function")]], FAIL_FAST, Field(max_length=MAX_TOOLS)
    ] = []
    tool_choice: (
        Literal["none", "auto", "required"]
        | Annotated[FlatNamedTool | FlatAllowedTools, Field(discriminator="type")]
    ) = "auto"
    parallel_tool_calls: bool = Field(True, description="Allow several calls in one response.")
    include: Annotated[
        list[Literal["message.output_text.logprobs"]], Field(max_length=_MAX_INCLUDED)
    ] = []
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = Field(
        None, description=f"So many most likely tokens; goes with include: ['{LOGPROBS}']."
    )
    store: bool | None = Field(
        None, description="Keep the response, so that others may go on from it. Default: true."
    )
    previous_response_id: str | None = Field(
        None, description="The response that this one goes on from."
    )
    user: str | None = Field(None, description=_NO_EFFECT)
    metadata: Metadata = Field({}, description=_NO_EFFECT)
    safety_identifier: str | None = Field(None, description=_NO_EFFECT)
    prompt_cache_key: str | None = Field(
        None,
        description="Given back in the response. Equal beginnings of prompts are found without it.",
    )
    truncation: Literal["disabled"] = Field(
        "disabled", description="What does not fit into the context is refused, never cut."
    )
    reasoning: ReasoningConfig | None = None
    background: Literal[False] = False
    service_tier: Literal["auto", "default"] = "auto"

    @model_validator(mode="before")
    @classmethod
    def _check_max_tokens(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("max_tokens") is not None:
            raise wrong_field("max_tokens", "the name of this limit is max_output_tokens here")
        return data

    @model_validator(mode="after")
    def _check_logprobs(self) -> Self:
        if self.top_logprobs and not self.include:
            raise wrong_field("top_logprobs", f"goes with include: ['{LOGPROBS}']")
        return self
