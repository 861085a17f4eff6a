"""Fields of /tokenize that have no effect."""

from __future__ import annotations

from glmserve.api.protocol.accepted.fields import hint, neutral, table

TOKENIZE = table(
    hint("mm_processor_kwargs", "vLLM's clients", "How to read pictures; there are none.", dict),
    hint("media_io_kwargs", "vLLM's clients", "How to load pictures; there are none.", dict),
    neutral("chat_template", [""], "vLLM's clients", "Formats the prompt.", "the model has one"),
)
