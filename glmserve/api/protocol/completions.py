"""POST /v1/completions"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, field_validator

from glmserve.api.protocol.base import FAIL_FAST, INT32_MAX
from glmserve.api.protocol.sampling import GenerationRequest, TokenId

TokenIds = Annotated[list[TokenId], FAIL_FAST]

_MAX_PROMPTS = 2048  # OpenAI's


class CompletionRequest(GenerationRequest):
    """Continue one or several prompts."""

    prompt: str | TokenIds | Annotated[list[str], FAIL_FAST] | Annotated[list[TokenIds], FAIL_FAST]
    """Text or token ids, of one prompt or of several."""
    max_tokens: Annotated[int, Field(ge=0, le=INT32_MAX)] | None = Field(
        None, description="Default 16. 0 with echo: only the prompt, for its log-probabilities."
    )
    echo: bool = Field(False, description="Begin the text with the prompt.")
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = Field(
        None, description="Log-probabilities of each token and of so many most likely ones."
    )
    best_of: Annotated[int, Field(ge=1, le=128)] | None = Field(
        None, description="Make so many choices and return the n most likely."
    )

    @field_validator("prompt", mode="before")
    @classmethod
    def _check_kind(cls, value: Any) -> Any:
        """Say what is wrong in a few words, where a union of four would say it four times."""
        if isinstance(value, list) and not value:
            raise ValueError("must not be empty")
        kinds = {type(item) for item in value} if isinstance(value, list) else {type(value)}
        if isinstance(value, str | list) and (kinds == {str} or kinds == {int} or kinds == {list}):
            if kinds != {int} and isinstance(value, list) and len(value) > _MAX_PROMPTS:
                raise ValueError(f"at most {_MAX_PROMPTS} prompts in one request")
            return value
        raise ValueError(
            "must be a string, a list of token ids, a list of strings, or a list of lists of "
            "token ids"
        )

    @property
    def prompts(self) -> list[str] | list[list[int]]:
        """One entry per prompt."""
        prompt = self.prompt
        if isinstance(prompt, str):
            return [prompt]
        if isinstance(prompt[0], int):
            return [prompt]
        return prompt
