"""Tools that a request offers, and whether one must be called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from glmserve.api.protocol.accepted.chat import TOOL
from glmserve.api.protocol.base import FAIL_FAST, MAX_TOOLS, StrictModel

ToolName = Annotated[str, Field(pattern=r"^[\w.-]{1,128}$")]


class FunctionModel(StrictModel):
    """A function as its schema."""

    accepted: ClassVar = TOOL

    name: ToolName
    description: str | None = None
    parameters: dict[str, Any] = Field({}, description="JSON schema of the object of arguments.")
    strict: bool = Field(False, description="Refuse parameters that cannot be guaranteed.")


class ToolModel(StrictModel):
    """A function the model may call."""

    accepted: ClassVar = TOOL

    type: Literal["function"] = "function"
    function: FunctionModel


class UnavailableTool(BaseModel):
    """A tool that other servers run themselves, or that takes free text. It is left out, whatever
    its fields are."""

    model_config = ConfigDict(strict=True, extra="ignore")

    type: Literal[
        "code_interpreter",
        "custom",
        "drawing_tool",
        "file_search",
        "image_generation",
        "mcp",
        "retrieval",
        "web_browser",
        "web_search",
        "web_search_preview",
    ]


AnyTool = Annotated[ToolModel | UnavailableTool, Field(discriminator="type")]


def left_out(tools: Sequence[AnyTool]) -> list[str]:
    """The types of the tools that do not exist here, each once."""
    return list(dict.fromkeys(t.type for t in tools if isinstance(t, UnavailableTool)))


class FunctionName(StrictModel):
    """A function by its name."""

    name: str


class NamedTool(StrictModel):
    """One of the tools."""

    type: Literal["function"]
    function: FunctionName


class AllowedTools(StrictModel):
    """Some of the tools, and whether one of them must be called."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedTool], FAIL_FAST, Field(min_length=1, max_length=MAX_TOOLS)]


class AllowedToolsChoice(StrictModel):
    """A choice among some of the tools."""

    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools


ToolChoice = (
    Literal["none", "auto", "required"]
    | Annotated[NamedTool | AllowedToolsChoice, Field(discriminator="type")]
)
