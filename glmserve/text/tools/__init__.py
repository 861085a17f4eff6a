"""Tool calling: descriptions of tools, forms of calls, parsers and grammars."""

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
