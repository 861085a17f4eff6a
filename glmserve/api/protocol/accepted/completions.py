"""Fields of completions that have no effect."""

from __future__ import annotations

from glmserve.api.protocol.accepted.fields import hint, neutral, table

COMPLETIONS = table(
    neutral(
        "suffix",
        [""],
        "OpenAI's SDKs, Continue",
        "Text that follows behind the completion.",
        "these models were not trained to fill gaps",
    ),
    hint("metadata", "OpenAI's SDKs", "Your own notes about the request.", dict),
)
