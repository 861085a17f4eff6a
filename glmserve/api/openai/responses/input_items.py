"""The items of a request's input."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from glmserve.api.protocol.base import FAIL_FAST, MAX_PARTS, StrictModel, only_type, wrong_field

_PARTS = Field(max_length=MAX_PARTS)
_MAX_SCORES = 2**17  # tokens of one text

ItemStatus = Literal["in_progress", "completed", "incomplete"]


class InputTextPart(StrictModel):
    """A piece of what a client says."""

    type: Literal["input_text"]
    text: str


class OutputTextPart(StrictModel):
    """A piece of what the model has said, as a response has it."""

    type: Literal["output_text"]
    text: str
    annotations: Annotated[list[object], Field(max_length=0)] = []
    logprobs: Annotated[list[dict[str, Any]], FAIL_FAST] = Field(
        [], max_length=_MAX_SCORES, description="As in responses; has no effect."
    )


class OutputRefusalPart(StrictModel):
    """A piece of an answer that another model produced."""

    type: Literal["refusal"]
    refusal: str

    @property
    def text(self) -> str:
        return self.refusal


class _ItemModel(StrictModel):
    id: str | None = Field(None, description="As in responses; the item keeps it.")
    status: ItemStatus = "completed"


class MessageItem(_ItemModel):
    """A message of any role."""

    type: Literal["message"]
    role: Literal["user", "system", "developer", "assistant"]
    content: (
        str
        | Annotated[
            list[
                Annotated[
                    InputTextPart | OutputTextPart | OutputRefusalPart,
                    Field(discriminator="type"),
                ]
            ],
            FAIL_FAST,
            _PARTS,
        ]
    )

    @model_validator(mode="after")
    def _check_parts(self) -> Self:
        if isinstance(self.content, str):
            return self
        for part in self.content:
            if isinstance(part, InputTextPart) == (self.role == "assistant"):
                raise wrong_field(
                    "content", "parts are output_text or refusal of an assistant, else input_text"
                )
        return self


class FunctionCallItem(_ItemModel):
    """What the model has called."""

    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str = Field(description="The text of a JSON object.")


class FunctionCallOutputItem(_ItemModel):
    """The result of a call."""

    type: Literal["function_call_output"]
    call_id: str
    output: (
        str | Annotated[list[Annotated[InputTextPart, only_type("input_text")]], FAIL_FAST, _PARTS]
    )


def _add_type(item: Any) -> Any:
    """A message may come without its type."""
    return {"type": "message", **item} if isinstance(item, dict) else item


InputItem = Annotated[
    MessageItem | FunctionCallItem | FunctionCallOutputItem,
    Field(discriminator="type"),
    BeforeValidator(_add_type),
]
