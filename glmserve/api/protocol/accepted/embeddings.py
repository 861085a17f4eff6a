"""Fields of embeddings that have no effect."""

from __future__ import annotations

from glmserve.api.protocol.accepted.fields import hint, table

EMBEDDINGS = table(
    hint("user", "OpenAI's SDKs, Dify", "Your name of the end user.", str),
)
