"""Fields of Anthropic's messages that have no effect."""

from __future__ import annotations

from glmserve.api.protocol.accepted.fields import hint, table

CACHE_CONTROL = table(
    hint(
        "cache_control",
        "Claude Code, Anthropic's SDKs, LiteLLM",
        "Where the prompt may be cached; every prompt is cached.",
        dict,
    ),
)

MESSAGES = table(
    hint("metadata", "Claude Code, Anthropic's SDKs", "Your own notes about the request.", dict),
    also=CACHE_CONTROL,
)
