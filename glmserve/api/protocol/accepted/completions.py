"""Fields of completions that have no effect; those of `generation.py` belong to it as well."""

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
    neutral("prompt_embeds", [[]], "vLLM's clients", "Prompts as vectors.", "send text or ids"),
    hint("metadata", "OpenAI's SDKs", "Your own notes about the request.", dict),
    hint("service_tier", "OpenAI's SDKs", "How fast to answer; there is one tier.", str),
)
