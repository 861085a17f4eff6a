"""POST /v1/chat/completions"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from glmserve.api.protocol.base import (
    FAIL_FAST,
    INT32_MAX,
    MAX_PARTS,
    MAX_TOOLS,
    StrictModel,
    wrong_field,
)
from glmserve.api.protocol.messages import Content, Message
from glmserve.api.protocol.sampling import GenerationRequest, Metadata
from glmserve.api.protocol.tools import ToolChoice, ToolModel

_NO_EFFECT = "Accepted for your own records; has no effect."


class TextFormat(StrictModel):
    """Free text."""

    type: Literal["text"]


class JsonObjectFormat(StrictModel):
    """Some JSON object, which may have to match a schema."""

    type: Literal["json_object"]
    schema_: dict[str, Any] | None = Field(None, alias="schema")


class JsonSchemaSpec(StrictModel):
    """A schema and its name."""

    name: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    description: str | None = None
    schema_: dict[str, Any] | bool = Field(True, alias="schema")
    strict: bool = Field(False, description="Refuse a schema that cannot be guaranteed.")


class JsonSchemaFormat(StrictModel):
    """JSON that matches a schema."""

    type: Literal["json_schema"]
    json_schema: JsonSchemaSpec


ResponseFormat = Annotated[
    TextFormat | JsonObjectFormat | JsonSchemaFormat, Field(discriminator="type")
]


class Prediction(StrictModel):
    """A text that the answer will resemble, such as a file that it changes a little."""

    type: Literal["content"]
    content: Content

    @property
    def text(self) -> str:
        """The content as one string."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content)


class ChatCompletionRequest(GenerationRequest):
    """Answer the last message of a conversation."""

    messages: Annotated[list[Message], FAIL_FAST, Field(min_length=1, max_length=MAX_PARTS)]
    max_completion_tokens: Annotated[int, Field(ge=1, le=INT32_MAX)] | None = None
    logprobs: bool = Field(False, description="Log-probabilities of each token.")
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = Field(
        None, description="And of so many most likely ones."
    )
    response_format: ResponseFormat = TextFormat(type="text")
    tools: Annotated[list[ToolModel], FAIL_FAST, Field(max_length=MAX_TOOLS)] = []
    tool_choice: ToolChoice | None = Field(None, description="Default: auto if there are tools.")
    parallel_tool_calls: bool = Field(True, description="Allow several calls in one response.")
    prediction: Prediction | None = Field(
        None, description="Makes an answer that is like it come faster, and changes none."
    )
    metadata: Metadata = Field({}, description=_NO_EFFECT)
    safety_identifier: str | None = Field(None, description=_NO_EFFECT)
    prompt_cache_key: str | None = Field(
        None, description="Has no effect: equal beginnings of prompts are found without it."
    )
    modalities: Annotated[list[Literal["text"]], Field(min_length=1, max_length=1)] | None = None
    store: Literal[False] = Field(False, description="Nothing is stored.")
    service_tier: Literal["auto", "default"] = "auto"
    reasoning_effort: Literal["none"] = Field("none", description="These models do not reason.")
    verbosity: Literal["medium"] = "medium"

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        if self.top_logprobs is not None and not self.logprobs:
            raise wrong_field("top_logprobs", "goes with logprobs: true")
        if self.max_tokens and self.max_completion_tokens:
            raise wrong_field(
                "max_tokens", "the old name of max_completion_tokens; send one of them"
            )
        return self

    @property
    def output_limit(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens
