"""The fields that chat completions and text completions share."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from glmserve.api.protocol.accepted.generation import (
    GENERATION,
    STREAM_OPTIONS,
    STRUCTURED_OUTPUTS,
)
from glmserve.api.protocol.base import FAIL_FAST, INT32_MAX, StrictModel, at_most, wrong_field

_SEED_MAX = 2**63 - 1
_MAX_STOP_STRINGS = 16
_MAX_BAD_WORDS = 64
_MAX_BIASES = 1024
"""The limit exists because biases are sent to the worker with every token."""
_MAX_STOP_TOKENS = 1024
_MAX_SCORED = 128  # vLLM's
_MAX_ALLOWED = 2**18  # more than any vocabulary has
LONGEST_SALT = 1024
_TOKEN_ID = re.compile("0|[1-9][0-9]{0,9}")  # canonical, so that two keys never name one token
_MAX_METADATA = 16  # OpenAI's, as are the lengths of keys and values


def _shown(names: list[str]) -> list[str]:
    """The first few names, cut where they are long."""
    return [repr(name[:20]) for name in names[:10]]


def _check_limit(value: int) -> int:
    if value == 0:
        raise ValueError("must be at least 1, or -1 for no limit")
    return value


Penalty = Annotated[float, Field(ge=-2, le=2)]
TokenId = Annotated[int, Field(ge=0, le=INT32_MAX)]
TokenLimit = Annotated[int, Field(ge=-1, le=INT32_MAX), AfterValidator(_check_limit)]
"""The most tokens of a text; -1, which clients of llama.cpp send, is no limit."""
StopString = Annotated[str, Field(max_length=1024)]
Metadata = Annotated[
    dict[
        Annotated[str, Field(max_length=64)],
        Annotated[str, Field(max_length=512)],
    ],
    Field(max_length=_MAX_METADATA),
    at_most(_MAX_METADATA, "entries"),
]


class StreamOptions(StrictModel):
    """How a stream is delivered."""

    include_usage: bool = Field(False, description="Send token counts in one more, last chunk.")
    continuous_usage_stats: bool = Field(
        False, description="With include_usage: send token counts in every chunk."
    )

    accepted: ClassVar = STREAM_OPTIONS


class StructuredOutputs(StrictModel):
    """The structure of the text, as one of these; the fields guided_* are their older names."""

    accepted: ClassVar = STRUCTURED_OUTPUTS

    json_schema: dict[str, Any] | bool | str | None = Field(
        None, alias="json", description="A JSON schema, as an object or as its text."
    )
    json_object: bool = False
    regex: str | None = None
    choice: Annotated[list[str], FAIL_FAST] | None = None
    grammar: str | None = Field(None, description="A grammar in Lark's or llama.cpp's notation.")


class Truncation(StrictModel):
    """How much of a prompt to keep."""

    truncate_prompt_tokens: Annotated[int, Field(ge=-1, le=INT32_MAX)] | None = Field(
        None,
        description="Keep at most so many tokens of the prompt, special tokens included; -1: as "
        "many as fit into the context.",
    )
    truncation_side: Literal["left", "right"] = Field(
        "left", description="Where truncate_prompt_tokens cuts: left keeps the end of the prompt."
    )

    @field_validator("truncate_prompt_tokens")
    @classmethod
    def _check_not_zero(cls, value: int | None) -> int | None:
        if value == 0:
            raise ValueError("must keep at least one token")
        return value


class GenerationRequest(Truncation):
    """The fields of chat completions and of text completions."""

    accepted: ClassVar = GENERATION

    model: str = Field("", description="Default: the model that is served.")
    max_tokens: TokenLimit | None = Field(None, description="-1: what fits into the context.")
    n_predict: TokenLimit | None = Field(None, description="llama.cpp's name of max_tokens.")
    min_tokens: int = Field(
        0, ge=0, le=INT32_MAX, description="Nothing ends the text before so many tokens."
    )
    temperature: float = Field(1.0, ge=0, le=2, description="0 always takes the most likely token.")
    do_sample: bool = Field(True, description="false: as with temperature 0.")
    top_p: float = Field(
        1.0, ge=0, le=1, description="0 always takes the most likely token, as temperature 0 does."
    )
    top_k: int = Field(0, ge=-1, le=INT32_MAX, description="0 or -1: no limit.")
    min_p: float = Field(0.0, ge=0, le=1, description="Least probability, relative to the best.")
    presence_penalty: Penalty = 0.0
    frequency_penalty: Penalty = 0.0
    repetition_penalty: float = Field(1.0, ge=0.01, le=10)
    logit_bias: Annotated[
        dict[str, Annotated[float, Field(ge=-100, le=100)]],
        Field(max_length=_MAX_BIASES),
        at_most(_MAX_BIASES, "tokens"),
    ] = {}
    seed: Annotated[int, Field(ge=-_SEED_MAX - 1, le=_SEED_MAX)] | None = Field(
        None, description="The same seed and request give the same text, whatever else runs."
    )
    n: int = Field(1, ge=1, le=128, description="Choices for each prompt.")
    stop: StopString | Annotated[list[StopString], FAIL_FAST] = []
    stop_token_ids: Annotated[list[TokenId], FAIL_FAST, Field(max_length=_MAX_STOP_TOKENS)] = []
    ignore_eos: bool = Field(False, description="Go on until max_tokens.")
    include_stop_str_in_output: bool = Field(False, description="Keep what ended the text.")
    skip_special_tokens: bool = Field(True, description="false: show special tokens by name.")
    bad_words: Annotated[list[StopString], FAIL_FAST] = Field(
        [], description="Strings that the text never contains."
    )
    stream: bool = False
    stream_options: StreamOptions | None = None
    priority: int = Field(
        0, ge=-INT32_MAX, le=INT32_MAX, description="Lower values are served first."
    )
    cache_salt: str = Field(
        "",
        max_length=LONGEST_SALT,
        description="Prompts share the prefix cache only with prompts of equal salt.",
    )
    allowed_token_ids: (
        Annotated[list[TokenId], FAIL_FAST, Field(min_length=1, max_length=_MAX_ALLOWED)] | None
    ) = Field(
        None,
        description="Every token is one of these. The text ends early only if an end token is "
        "among them.",
    )
    prompt_logprobs: Annotated[int, Field(ge=0, le=20)] | None = Field(
        None,
        description="Add the log-probabilities of the prompt's tokens, each with so many most "
        "likely tokens; not in streams.",
    )
    logprob_token_ids: Annotated[list[TokenId], FAIL_FAST, Field(max_length=_MAX_SCORED)] = Field(
        [],
        description="With logprobs: at each place of the text the log-probabilities of the chosen "
        "token and of these, in place of the most likely ones.",
    )
    return_tokens_as_token_ids: bool = Field(
        False, description="Name the tokens of log-probabilities token_id:N."
    )
    return_token_ids: bool = Field(False, description="Add the token ids to the response.")
    structured_outputs: StructuredOutputs | None = None
    guided_json: dict[str, Any] | bool | str | None = None
    guided_regex: str | None = None
    guided_choice: Annotated[list[str], FAIL_FAST] | None = None
    guided_grammar: str | None = None

    @field_validator("logit_bias", mode="before")
    @classmethod
    def _read_no_biases(cls, value: Any) -> Any:
        """llama.cpp's clients send lists."""
        return {} if value == [] else value

    @field_validator("stop", "bad_words")
    @classmethod
    def _check_strings(cls, value: str | list[str], info: Any) -> list[str]:
        """Empty strings ask for nothing."""
        strings = [text for text in ([value] if isinstance(value, str) else value) if text]
        what, most = (
            ("stop string", _MAX_STOP_STRINGS)
            if info.field_name == "stop"
            else ("bad word", _MAX_BAD_WORDS)
        )
        if len(strings) > most:
            raise ValueError(f"at most {most} {what}s")
        return strings

    @field_validator("logprob_token_ids")
    @classmethod
    def _name_each_once(cls, value: list[int]) -> list[int]:
        return list(dict.fromkeys(value))

    @field_validator("logit_bias")
    @classmethod
    def _check_logit_bias(cls, value: dict[str, float]) -> dict[str, float]:
        bad = [key for key in value if not (_TOKEN_ID.fullmatch(key) and int(key) <= INT32_MAX)]
        if bad:
            raise ValueError(f"keys are token ids; no ids are {', '.join(_shown(bad))}")
        return value

    @model_validator(mode="after")
    def _check_stream(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise wrong_field("stream_options", "goes with stream: true")
        if self.prompt_logprobs is not None and self.stream:
            raise wrong_field("prompt_logprobs", "goes with stream: false")
        return self

    @model_validator(mode="after")
    def _check_n_predict(self) -> Self:
        if self.n_predict is not None and self.max_tokens not in (None, self.n_predict):
            raise wrong_field("n_predict", "another name of max_tokens; send one of them")
        return self

    @property
    def stop_strings(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    @property
    def include_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage

    @property
    def continuous_usage(self) -> bool:
        """Whether every chunk has the token counts so far."""
        return self.include_usage and bool(
            self.stream_options and self.stream_options.continuous_usage_stats
        )
