"""Tool calling: what models are offered, how calls are written, found and made certain."""

from glmserve.text.tools.parser import (
    ArgumentsDelta,
    CallStarted,
    ContentDelta,
    ToolEvent,
    ToolParser,
)
from glmserve.text.tools.tool import Tool, ToolCall

__all__ = [
    "ArgumentsDelta",
    "CallStarted",
    "ContentDelta",
    "Tool",
    "ToolCall",
    "ToolEvent",
    "ToolParser",
]
