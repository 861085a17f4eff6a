"""The items of a request's input."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from glmserve.api.protocol.accepted.responses import INPUT_PART, ITEM, OUTPUT_PART
from glmserve.api.protocol.base import FAIL_FAST, MAX_PARTS, StrictModel, only_type

_PARTS = Field(max_length=MAX_PARTS)

ItemStatus = Literal["in_progress", "completed", "incomplete"]


class InputTextPart(StrictModel):
    """A piece of what a client says."""

    accepted: ClassVar = INPUT_PART

    type: Literal["input_text"]
    text: str


class OutputTextPart(StrictModel):
    """A piece of what the model has said, as a response has it."""

    accepted: ClassVar = OUTPUT_PART

    type: Literal["output_text"]
    text: str


class OutputRefusalPart(StrictModel):
    """A piece of an answer that another model produced."""

    type: Literal["refusal"]
    refusal: str

    @property
    def text(self) -> str:
        return self.refusal


class _ItemModel(StrictModel):
    accepted: ClassVar = ITEM

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


class FunctionCallItem(_ItemModel):
    """What the model has called."""

    type: Literal["function_call"]
    call_id: str
    name: str
    namespace: str | None = None
    arguments: str = Field(description="The text of a JSON object.")


class FunctionCallOutputItem(_ItemModel):
    """The result of a call."""

    type: Literal["function_call_output"]
    call_id: str
    output: (
        str | Annotated[list[Annotated[InputTextPart, only_type("input_text")]], FAIL_FAST, _PARTS]
    )


class CustomCallItem(_ItemModel):
    """A call of a tool that takes text. The model reads it as a function's, with one argument."""

    type: Literal["custom_tool_call"]
    call_id: str
    name: str
    namespace: str | None = None
    input: str


class CustomCallOutputItem(FunctionCallOutputItem):
    """The result of such a call."""

    type: Literal["custom_tool_call_output"]  # type: ignore[assignment]


class ReasoningItem(BaseModel):
    """How another model came to its answer. These models have no place for it: it is left out."""

    model_config = ConfigDict(strict=True, extra="ignore")

    type: Literal["reasoning"]


class UnreadableItem(BaseModel):
    """What other servers' own tools have done. It is left out, whatever its fields are."""

    model_config = ConfigDict(strict=True, extra="ignore")

    type: Literal[
        "code_interpreter_call",
        "compaction",
        "computer_call",
        "computer_call_output",
        "file_search_call",
        "image_generation_call",
        "local_shell_call",
        "local_shell_call_output",
        "mcp_approval_request",
        "mcp_approval_response",
        "mcp_call",
        "mcp_list_tools",
        "shell_call",
        "shell_call_output",
        "tool_search_call",
        "tool_search_output",
        "web_search_call",
    ]


class ItemReference(StrictModel):
    """An item of a stored response, or of its input."""

    type: Literal["item_reference"]
    id: str


def _add_type(item: Any) -> Any:
    """A message may come without its type, and a reference, too."""
    if not isinstance(item, dict) or item.get("type") is not None:
        return item
    kind = "item_reference" if item.keys() - {"type"} == {"id"} else "message"
    return {**item, "type": kind}


ConversationItem = (
    MessageItem
    | FunctionCallItem
    | FunctionCallOutputItem
    | CustomCallItem
    | CustomCallOutputItem
    | ItemReference
)
"""The items that the model reads."""

InputItem = Annotated[
    ConversationItem | ReasoningItem | UnreadableItem,
    Field(discriminator="type"),
    BeforeValidator(_add_type),
]
