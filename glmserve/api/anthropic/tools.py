"""The tools of a request: functions, and Anthropic's own, which do not exist here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag

from glmserve.api.protocol.accepted.messages import TOOL_PARAM
from glmserve.api.protocol.base import StrictModel
from glmserve.api.protocol.tools import ToolName

_KNOWN = re.compile(
    r"(advisor|bash|browser|code_execution|computer|memory|text_editor|tool_search_tool|web_fetch"
    r"|web_search|mcp_toolset)(_[a-z0-9_]*)?"
)


class ToolParam(StrictModel):
    """A function the model may call."""

    accepted: ClassVar = TOOL_PARAM

    type: Literal["custom"] = "custom"
    name: ToolName
    description: str | None = None
    input_schema: dict[str, Any] = Field(description="JSON schema of the object of arguments.")
    strict: bool = Field(False, description="Refuse schemas that cannot be guaranteed.")


def _check_known(kind: str) -> str:
    if len(kind) > 64 or not _KNOWN.fullmatch(kind):
        raise ValueError("must be 'custom', or the type of one of Anthropic's tools")
    return kind


class ServerToolParam(BaseModel):
    """One of Anthropic's tools. It is left out, whatever its fields are."""

    model_config = ConfigDict(strict=True, extra="ignore")

    type: Annotated[str, AfterValidator(_check_known)]


def _is_custom(tool: Any) -> str:
    kind = tool.get("type") if isinstance(tool, dict) else "custom"
    return "function" if kind in (None, "custom") else "other"


AnyToolParam = Annotated[
    Annotated[ToolParam, Tag("function")] | Annotated[ServerToolParam, Tag("other")],
    Discriminator(_is_custom),
]


def functions(tools: Sequence[ToolParam | ServerToolParam]) -> list[ToolParam]:
    """The tools that the model may call."""
    return [tool for tool in tools if isinstance(tool, ToolParam)]
