"""Requests as pydantic models: every field is honoured, anything else is refused by name."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

import msgspec
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from glmserve.errors import InvalidRequestError

_INT32_MAX = 2**31 - 1
_SEED_MAX = 2**63 - 1
_MAX_STOP_STRINGS = 16

_FAIL_FAST = Field(fail_fast=True)
"""One error per list is enough: a report on a million bad elements would stall every stream."""

Penalty = Annotated[float, Field(ge=-2, le=2)]
TokenId = Annotated[int, Field(ge=0, le=_INT32_MAX)]


class _Model(BaseModel):
    model_config = ConfigDict(
        strict=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True
    )


class StreamOptions(_Model):
    """How a stream is delivered."""

    include_usage: bool = Field(False, description="Send token counts in one more, last chunk.")


class TextPart(_Model):
    """A piece of a message's content."""

    type: Literal["text"]
    text: str


class Message(_Model):
    """One message of a conversation."""

    role: Literal["developer", "system", "user", "assistant"]
    content: str | Annotated[list[TextPart], _FAIL_FAST]
    name: Annotated[None, Field(description="Not supported: these models know no names.")] = None

    @property
    def text(self) -> str:
        """The content as one string."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content)


class GenerationRequest(_Model):
    """What chat and text completions have in common."""

    model: str
    max_tokens: Annotated[int, Field(ge=1, le=_INT32_MAX)] | None = None
    temperature: float = Field(1.0, ge=0, le=2, description="0 always takes the likeliest token.")
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=-1, le=_INT32_MAX, description="0 or -1: no limit.")
    min_p: float = Field(0.0, ge=0, le=1, description="Least probability, relative to the best.")
    presence_penalty: Penalty = 0.0
    frequency_penalty: Penalty = 0.0
    repetition_penalty: float = Field(1.0, gt=0, le=10)
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] = {}
    seed: Annotated[int, Field(ge=-_SEED_MAX - 1, le=_SEED_MAX)] | None = Field(
        None, description="The same seed and request give the same text, whatever else runs."
    )
    stop: str | Annotated[list[str], _FAIL_FAST] = []
    stop_token_ids: Annotated[list[TokenId], _FAIL_FAST] = []
    ignore_eos: bool = Field(False, description="Go on until max_tokens.")
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: Literal[1] = Field(1, description="One choice per request.")
    user: str | None = Field(None, description="Accepted for your own records; has no effect.")
    priority: int = Field(
        0, ge=-_INT32_MAX, le=_INT32_MAX, description="Lower values are served first."
    )
    cache_salt: str = Field(
        "", description="Prompts share the prefix cache only with prompts of equal salt."
    )
    return_token_ids: bool = Field(False, description="Add the token ids to the response.")

    @field_validator("stop")
    @classmethod
    def _check_stop(cls, value: str | list[str]) -> str | list[str]:
        strings = [value] if isinstance(value, str) else value
        if not all(strings):
            raise ValueError("a stop string must not be empty")
        if len(strings) > _MAX_STOP_STRINGS:
            raise ValueError(f"at most {_MAX_STOP_STRINGS} stop strings")
        return value

    @field_validator("logit_bias")
    @classmethod
    def _check_logit_bias(cls, value: dict[str, float]) -> dict[str, float]:
        for key in value:
            if not (key.isascii() and key.isdigit() and int(key) <= _INT32_MAX):
                raise ValueError(f"keys are token ids, {key!r} is none")
        return value

    @property
    def stop_strings(self) -> list[str]:
        return [self.stop] if isinstance(self.stop, str) else self.stop


class ChatCompletionRequest(GenerationRequest):
    """POST /v1/chat/completions"""

    messages: list[Message] = Field(min_length=1, fail_fast=True)
    max_completion_tokens: Annotated[int, Field(ge=1, le=_INT32_MAX)] | None = None
    logprobs: Literal[False] = False
    response_format: dict[Literal["type"], Literal["text"]] = {"type": "text"}


class CompletionRequest(GenerationRequest):
    """POST /v1/completions"""

    prompt: str | Annotated[list[TokenId], _FAIL_FAST] = Field(
        description="Text, or the ids of its tokens."
    )
    echo: Literal[False] = False
    best_of: Literal[1] = 1


Parsed = TypeVar("Parsed", bound=GenerationRequest)


def parse_request(model: type[Parsed], body: bytes) -> Parsed:
    """Check a request body.

    A field that is null is as good as absent, which is how OpenAI's own clients mean it.

    Raises:
        InvalidRequestError: names the first field that is wrong, and how.
    """
    try:
        data = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequestError(f"the body is not valid JSON: {error}") from None
    if not isinstance(data, dict):
        raise InvalidRequestError("the body must be a JSON object")
    try:
        return model.model_validate(_without_nulls(data))
    except ValidationError as error:
        raise _first_error(error) from None


def _without_nulls(data: dict[str, Any]) -> dict[str, Any]:
    """The fields that are not null, of objects within as well."""
    return {
        key: _without_nulls(value) if isinstance(value, dict) else value
        for key, value in data.items()
        if value is not None
    }


def _first_error(error: ValidationError) -> InvalidRequestError:
    """pydantic's complaint in our words, with the field's path as OpenAI writes it.

    Each member of a union complains for itself; who got deepest into the value was meant.
    """
    errors = error.errors(include_url=False, include_context=False, include_input=False)
    field = errors[0]["loc"][:1]
    first = max((e for e in errors if e["loc"][:1] == field), key=lambda e: len(e["loc"]))
    inner = (str(part) for part in first["loc"][1:] if not _is_union_branch(part))
    param = ".".join((str(field[0]), *inner))
    if first["type"] == "extra_forbidden":
        message = f"{param!r} is not supported by this server; leave it out"
    elif first["type"] == "missing":
        message = f"{param} is required"
    else:
        message = f"{param}: {first['msg'].removeprefix('Value error, ')}"
    return InvalidRequestError(message, param)


def _is_union_branch(part: str | int) -> bool:
    """pydantic puts the name of a union's member into the path; clients do not know it."""
    return isinstance(part, str) and (part in ("str", "int") or "[" in part)
