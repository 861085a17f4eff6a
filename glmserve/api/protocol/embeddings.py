"""POST /v1/embeddings"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from glmserve.api.protocol.accepted.embeddings import EMBEDDINGS
from glmserve.api.protocol.base import FAIL_FAST, INT32_MAX
from glmserve.api.protocol.prompts import TokenIds, check_prompt_kind, prompt_list
from glmserve.api.protocol.sampling import LONGEST_SALT, Truncation


class EmbeddingRequest(Truncation):
    """Vectors for one or several texts."""

    accepted: ClassVar = EMBEDDINGS

    model: str = Field("", description="Default: the model that is served.")
    input: str | TokenIds | Annotated[list[str], FAIL_FAST] | Annotated[list[TokenIds], FAIL_FAST]
    """Text or token ids, of one input or of several."""
    encoding_format: Literal["float", "base64"] = Field(
        "float", description="base64: little-endian float32."
    )
    dimensions: Annotated[int, Field(ge=1, le=INT32_MAX)] | None = Field(
        None, description="Keep the first so many numbers, scaled to length 1."
    )
    add_special_tokens: bool = Field(
        True, description="Put the tokenizer's marks around a text, such as [gMASK] and sop."
    )
    cache_salt: str = Field(
        "",
        max_length=LONGEST_SALT,
        description="What is computed is shared only with prompts of equal salt.",
    )
    priority: int = Field(
        0, ge=-INT32_MAX, le=INT32_MAX, description="Lower values are served first."
    )

    @field_validator("input", mode="before")
    @classmethod
    def _check_kind(cls, value: Any) -> Any:
        value = check_prompt_kind(value)
        if value == "" or (isinstance(value, list) and any(item in ("", []) for item in value)):
            raise ValueError("an input must not be empty")
        return value

    @property
    def stream(self) -> bool:
        """Vectors are never streamed."""
        return False

    @property
    def inputs(self) -> list[str] | list[list[int]]:
        """One entry per input."""
        inputs: list[str] | list[list[int]] = prompt_list(self.input)
        return inputs
