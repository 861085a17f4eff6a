"""What a converted schema accepts: the grammar engine on single bytes as tokens."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from llguidance import LLMatcher, LLTokenizer

from glmserve.text.structure.json_schema import converted_schema
from glmserve.text.structure.schema.leniency import Leniency
from glmserve.text.structure.schema.problem import SchemaError
from glmserve.text.structure.vocabulary import LIMITS, ll_tokenizer


@cache
def _tokenizer() -> LLTokenizer:
    return ll_tokenizer([bytes([byte]) for byte in range(256)])


class Accepting:
    """Tells whether texts match a schema.

    Raises:
        SchemaError: the schema is refused, also by the engine.
    """

    def __init__(self, schema: Any, leniency: Leniency = Leniency.NOTHING) -> None:
        converted, self.dropped, _ = converted_schema(schema, leniency)
        grammar = f'%llguidance {{"no_forcing": true}}\nstart: %json {json.dumps(converted)}'
        self._matcher = LLMatcher(_tokenizer(), grammar, log_level=0, limits=LIMITS)
        if self._matcher.is_error():
            raise SchemaError("", self._matcher.get_error())

    def text(self, text: str) -> bool:
        """Whether a text is complete and matches."""
        matcher, data = self._matcher.deep_copy(), list(text.encode())
        return matcher.try_consume_tokens(data) == len(data) and matcher.is_accepting()

    def __call__(self, instance: Any) -> bool:
        """Whether the usual JSON of an instance matches."""
        return self.text(json.dumps(instance, ensure_ascii=False))
