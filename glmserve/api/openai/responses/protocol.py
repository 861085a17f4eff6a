"""POST /v1/responses: the request."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from glmserve.api.openai.responses.input_items import InputItem
from glmserve.api.openai.responses.tools import AnyTool, FlatToolChoice
from glmserve.api.protocol.accepted.responses import REASONING, RESPONSES
from glmserve.api.protocol.base import (
    FAIL_FAST,
    INT32_MAX,
    MAX_PARTS,
    MAX_TOOLS,
    StrictModel,
    wrong_field,
)
from glmserve.api.protocol.chat import (
    JsonObjectFormat,
    JsonSchemaSpec,
    TemplateArguments,
    TextFormat,
)
from glmserve.api.protocol.sampling import GenerationRequest, Metadata, StreamOptions
from glmserve.api.protocol.thinking import ThinkingFields

_NO_EFFECT = "Given back in the response; has no other effect."
_MAX_INCLUDED = 16
_SHORT = Field(max_length=64)

LOGPROBS = "message.output_text.logprobs"

Included = Literal[
    "message.output_text.logprobs",
    "reasoning.encrypted_content",
    "code_interpreter_call.outputs",
    "computer_call_output.output.image_url",
    "file_search_call.results",
    "message.input_image.image_url",
    "web_search_call.action.sources",
    "web_search_call.results",
]
"""What a response may have besides. Here only log-probabilities exist."""


class FlatJsonSchemaFormat(JsonSchemaSpec):
    """JSON that matches a schema."""

    type: Literal["json_schema"]


class TextConfig(StrictModel):
    """The format of the text."""

    format: Annotated[
        TextFormat | JsonObjectFormat | FlatJsonSchemaFormat, Field(discriminator="type")
    ] = TextFormat(type="text")
    verbosity: Literal["low", "medium", "high"] = Field("medium", description=_NO_EFFECT)


class ReasoningConfig(StrictModel):
    """Whether the model thinks."""

    accepted: ClassVar = REASONING

    effort: Annotated[str | None, _SHORT] = Field(
        None, description="none: do not think. Other values are only given back in the response."
    )
    summary: Annotated[str | None, _SHORT] = Field(None, description=_NO_EFFECT)


class ResponseStreamOptions(StreamOptions):
    """How a stream is delivered."""

    include_usage: bool = Field(
        False, description="No effect: the last event of every stream has the token counts."
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


class ResponsesRequest(GenerationRequest, ThinkingFields):
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
    text: TextConfig = TextConfig(verbosity="medium")
    tools: Annotated[list[AnyTool], FAIL_FAST, Field(max_length=MAX_TOOLS)] = []
    tool_choice: FlatToolChoice = "auto"
    parallel_tool_calls: bool = Field(True, description="Allow several calls in one response.")
    max_tool_calls: Annotated[int, Field(ge=1, le=INT32_MAX)] | None = Field(
        None, description="Limits the server's own tools, of which there are none."
    )
    include: Annotated[list[Included], FAIL_FAST, Field(max_length=_MAX_INCLUDED)] = []
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
    truncation: Literal["disabled", "auto"] = Field(
        "disabled",
        description="What does not fit into the context is refused (disabled), or the oldest items "
        "are left out (auto).",
    )
    reasoning: ReasoningConfig | None = None  # type: ignore[assignment]  # OpenAI's own form
    chat_template_kwargs: TemplateArguments = Field(
        {}, description="Variables of the checkpoint's chat template, if that is rendered."
    )
    background: bool = Field(
        False,
        description="Answer at once, or stream, and generate whether the client stays or not; GET "
        "has the response, and its events if it is streamed.",
    )
    enable_response_messages: bool = Field(
        False, description="Add the prompt and the answer as text and token ids."
    )
    service_tier: Literal["auto", "default", "flex", "priority", "scale"] = Field(
        "auto", description="There is one tier; the response says default."
    )

    @model_validator(mode="before")
    @classmethod
    def _check_max_tokens(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("max_tokens") is not None:
            raise wrong_field("max_tokens", "the name of this limit is max_output_tokens here")
        return data

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        if self.top_logprobs and not self.wants_logprobs:
            raise wrong_field("top_logprobs", f"goes with include: ['{LOGPROBS}']")
        if self.logprob_token_ids and not self.wants_logprobs:
            raise wrong_field("logprob_token_ids", f"goes with include: ['{LOGPROBS}']")
        if self.background and self.store is False:
            raise wrong_field("store", "background can only be used when `store` is true")
        return self

    @property
    def wants_logprobs(self) -> bool:
        return LOGPROBS in self.include
