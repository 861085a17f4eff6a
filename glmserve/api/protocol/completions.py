"""POST /v1/completions"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, field_validator, model_validator

from glmserve.api.protocol.accepted.completions import COMPLETIONS
from glmserve.api.protocol.base import FAIL_FAST, INT32_MAX, wrong_field
from glmserve.api.protocol.chat import ResponseFormat, TextFormat
from glmserve.api.protocol.prompts import TokenIds, check_prompt_kind, prompt_list
from glmserve.api.protocol.sampling import GenerationRequest


class CompletionRequest(GenerationRequest):
    """Continue one or several prompts."""

    accepted: ClassVar = COMPLETIONS

    prompt: str | TokenIds | Annotated[list[str], FAIL_FAST] | Annotated[list[TokenIds], FAIL_FAST]
    """Text or token ids, of one prompt or of several."""
    max_tokens: Annotated[int, Field(ge=-1, le=INT32_MAX)] | None = Field(
        None,
        description="Default 16; -1: what fits into the context. 0 with echo: only the prompt, for "
        "its log-probabilities.",
    )
    add_special_tokens: bool = Field(
        True, description="Put the tokenizer's marks around a text, such as [gMASK] and sop."
    )
    response_format: ResponseFormat = TextFormat(type="text")
    echo: bool = Field(False, description="Begin the text with the prompt.")
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = Field(
        None,
        description="Log-probabilities of each token and of so many most likely ones. false: none.",
    )
    best_of: Annotated[int, Field(ge=1, le=128)] | None = Field(
        None, description="Make so many choices and return the n most likely."
    )

    @field_validator("logprobs", mode="before")
    @classmethod
    def _read_false(cls, value: Any) -> Any:
        """Routers send the default of chat completions."""
        return None if value is False else value

    @model_validator(mode="before")
    @classmethod
    def _check_prompt(cls, data: Any) -> Any:
        """A request without a prompt, but with the field that is another form of it elsewhere."""
        if isinstance(data, dict) and "prompt_embeds" in data and data.get("prompt") is None:
            raise wrong_field(
                "prompt",
                "Either prompt or prompt_embeds must be provided and non-empty. This server takes "
                "no prompt_embeds: send prompt, as text or token ids",
            )
        return data

    @field_validator("prompt", mode="before")
    @classmethod
    def _check_kind(cls, value: Any) -> Any:
        return check_prompt_kind(value)

    @model_validator(mode="after")
    def _check_scored_ids(self) -> Self:
        if self.logprob_token_ids and self.logprobs is None:
            raise wrong_field("logprob_token_ids", "goes with logprobs")
        if self.logprob_token_ids and self.output_limit == 0:
            raise wrong_field(
                "logprob_token_ids", "max_tokens: 0 makes no tokens for which these could be scored"
            )
        return self

    @property
    def output_limit(self) -> int | None:
        """max_tokens, also by its other name."""
        return self.n_predict if self.max_tokens is None else self.max_tokens

    @property
    def prompts(self) -> list[str] | list[list[int]]:
        """One entry per prompt."""
        prompts: list[str] | list[list[int]] = prompt_list(self.prompt)
        return prompts
