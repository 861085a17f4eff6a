"""POST /v1/chat/completions"""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from glmserve.api.protocol.accepted.chat import CHAT, TEMPLATE_ARGUMENTS
from glmserve.api.protocol.base import (
    FAIL_FAST,
    MAX_PARTS,
    MAX_TOOLS,
    StrictModel,
    wrong_field,
)
from glmserve.api.protocol.messages import AssistantMessage, Content, Message
from glmserve.api.protocol.sampling import GenerationRequest, TokenLimit
from glmserve.api.protocol.thinking import Thinking, ThinkingFields
from glmserve.api.protocol.tools import AnyTool, ToolChoice


class TextFormat(StrictModel):
    """Free text."""

    type: Literal["text"]


class JsonObjectFormat(StrictModel):
    """Some JSON object, which may have to match a schema."""

    type: Literal["json_object"]
    schema_: dict[str, Any] | None = Field(None, alias="schema")


class JsonSchemaSpec(StrictModel):
    """A schema and its name."""

    name: str = Field("response", pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    description: str | None = None
    schema_: dict[str, Any] | bool = Field(True, alias="schema")
    strict: bool = Field(False, description="Refuse a schema that cannot be guaranteed.")


class JsonSchemaFormat(StrictModel):
    """JSON that matches a schema: OpenAI's form, or llama.cpp's, which has the schema beside the
    type."""

    type: Literal["json_schema"]
    json_schema: JsonSchemaSpec | None = None
    schema_: dict[str, Any] | bool | None = Field(
        None, alias="schema", description="The schema, without json_schema."
    )
    name: str = Field("", description="With schema; has no effect.")
    description: str = Field("", description="With schema; has no effect.")
    strict: bool = Field(False, description="With schema: as in json_schema.")

    @model_validator(mode="after")
    def _check_schema(self) -> Self:
        if self.json_schema is None and self.schema_ is None:
            raise wrong_field("json_schema", "is required")
        if self.json_schema is not None and self.schema_ is not None:
            raise wrong_field("schema", "another form of json_schema; send one of them")
        return self


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


def _check_template_arguments(arguments: dict[str, Any]) -> dict[str, Any]:
    """Refuse the arguments that are no variables. A template ignores variables that it lacks."""
    for name, value in arguments.items():
        field = TEMPLATE_ARGUMENTS.get(name)
        refusal = field.refusal(value) if field is not None and value is not None else None
        if refusal is not None:
            raise wrong_field(name, refusal)
    return arguments


TemplateArguments = Annotated[dict[str, Any], AfterValidator(_check_template_arguments)]
"""Variables of a chat template, as Hugging Face's servers take them."""


def can_be_continued(message: Message) -> bool:
    """Whether an answer can continue the message."""
    return isinstance(message, AssistantMessage) and not message.tool_calls


Conversation = Annotated[list[Message], FAIL_FAST, Field(min_length=1, max_length=MAX_PARTS)]


class ChatFields(GenerationRequest, ThinkingFields):
    """What a request says of its answers, whatever the conversations are."""

    accepted: ClassVar = CHAT

    max_completion_tokens: TokenLimit | None = Field(None, description="As max_tokens.")
    logprobs: bool = Field(False, description="Log-probabilities of each token.")
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = Field(
        None, description="And of so many most likely ones."
    )
    response_format: ResponseFormat = TextFormat(type="text")
    continue_final_message: bool | None = Field(
        None,
        description="The answer continues the last message, which is the assistant's. Default: "
        "true if the last message is one without calls, and neither response_format nor "
        "tool_choice asks for more than text.",
    )
    add_generation_prompt: bool = Field(
        True,
        description="false: the prompt ends with the last message, and the model itself begins an "
        "answer.",
    )
    echo: bool = Field(False, description="Begin the answer with the message that it continues.")
    chat_template_kwargs: TemplateArguments = Field(
        {}, description="Variables of the checkpoint's chat template, if that is rendered."
    )
    service_tier: Literal["auto", "default", "flex", "priority", "scale"] = Field(
        "auto", description="There is one tier; the response says default."
    )

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        if self.top_logprobs and not self.logprobs:
            raise wrong_field("top_logprobs", "goes with logprobs: true")
        if self.logprob_token_ids and not self.logprobs:
            raise wrong_field("logprob_token_ids", "goes with logprobs: true")
        if self.max_tokens and self.max_completion_tokens not in (None, self.max_tokens):
            raise wrong_field(
                "max_tokens", "the old name of max_completion_tokens; send one of them"
            )
        return self

    @cached_property
    def thinking_wishes(self) -> Thinking:
        """What the request says about the model's thoughts."""
        return self.thinking_of(self.chat_template_kwargs)

    @property
    def template_variables(self) -> dict[str, object]:
        """Variables of the chat template, with the switch by the name that most templates read."""
        enabled = self.thinking_wishes.enabled
        switch = {} if enabled is None else {"enable_thinking": enabled}
        return {**self.chat_template_kwargs, **switch}

    @property
    def output_limit(self) -> int | None:
        """The most tokens of an answer; None: what fits."""
        limit = self.max_completion_tokens or self.max_tokens or self.n_predict
        return None if limit == -1 else limit


class ChatCompletionRequest(ChatFields):
    """Answer the last message of a conversation."""

    messages: Conversation
    tools: Annotated[list[AnyTool], FAIL_FAST, Field(max_length=MAX_TOOLS)] = []
    tool_choice: ToolChoice | None = Field(None, description="Default: auto if there are tools.")
    parallel_tool_calls: bool = Field(True, description="Allow several calls in one response.")
    prediction: Prediction | None = Field(
        None, description="Makes an answer that is like it come faster, and changes none."
    )

    @model_validator(mode="after")
    def _check_continuation(self) -> Self:
        can_continue = can_be_continued(self.messages[-1])
        if self.continue_final_message and not can_continue:
            raise wrong_field(
                "continue_final_message",
                "the last message must be the assistant's, without tool_calls",
            )
        for index, message in enumerate(self.messages[:-1] if can_continue else self.messages):
            if isinstance(message, AssistantMessage) and message.is_prefix:
                name = "prefix" if message.prefix else "partial"
                raise wrong_field(
                    f"messages.{index}.{name}",
                    "only the last message can be continued, without tool_calls",
                )
        if self.must_continue and not isinstance(self.response_format, TextFormat):
            raise wrong_field(
                "response_format", "the message that is continued would not have this format"
            )
        return self

    @cached_property
    def must_continue(self) -> bool:
        """Whether the request says that the last message is to be continued."""
        last = self.messages[-1]
        is_prefix = isinstance(last, AssistantMessage) and last.is_prefix
        return bool(self.continue_final_message) or is_prefix

    @cached_property
    def continues_last(self) -> bool:
        """Whether the answer continues the last message."""
        last = self.messages[-1]
        if self.must_continue or self.continue_final_message is not None:
            return self.must_continue
        is_free = isinstance(self.response_format, TextFormat) and (
            self.tool_choice in (None, "auto", "none")
        )
        return can_be_continued(last) and is_free

    @cached_property
    def begun_answer(self) -> str:
        """The text that the answer continues."""
        return self.messages[-1].text if self.continues_last else ""
