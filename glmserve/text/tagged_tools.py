"""What the chat formats of models have in common that were not trained to call tools."""

from __future__ import annotations

from collections.abc import Sequence

from glmserve.text.chat_format import ChatFormat
from glmserve.text.tools import Tool, ToolParser, tagged


class TaggedTools(ChatFormat):
    """Reads calls between tags (`tools/tagged.py`), which the system text explains to the model."""

    def tool_parser(self, tools: Sequence[Tool]) -> ToolParser:
        return tagged.TaggedParser(tools)

    def _tool_grammar(
        self, tools: Sequence[Tool], *, parallel: bool, or_text: bool, or_json: str | None
    ) -> str:
        if or_text:
            return tagged.grammar_with_text(tools, parallel=parallel)
        return tagged.grammar(tools, parallel=parallel, or_json=or_json)
