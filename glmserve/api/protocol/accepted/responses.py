"""Fields of responses that have no effect; those in `generation.py` belong to it as well."""

from __future__ import annotations

from glmserve.api.protocol.accepted.fields import hint, table

_SDKS = "OpenAI's SDKs"
_CODEX = "Codex CLI"

RESPONSES = table(
    hint("client_metadata", _CODEX, "Notes of the client about its session.", dict),
    hint("prompt_cache_retention", _SDKS, "How long to keep the prompt's cache.", str),
    hint("prompt_cache_options", _SDKS, "How to cache the prompt; every prompt is cached.", dict),
    hint("context_management", _SDKS, "When to shorten the conversation; see truncation.", list),
    hint("moderation", _SDKS, "Adds a judgement of the texts.", dict),
    hint("model_provider", _CODEX, "Which provider to use; there is one.", str),
)

NAMESPACE = table(
    hint("description", _CODEX, "What the functions are for; the model reads their own.", str),
    hint("defer_loading", "OpenAI's SDKs", "Shows the tools later; all are shown.", bool),
)

_PART = hint("prompt_cache_breakpoint", _SDKS, "Where the prompt may be cached.", dict)

INPUT_PART = table(_PART)

OUTPUT_PART = table(
    hint("annotations", f"{_SDKS}, Open WebUI", "Sources of the text, as in responses.", list),
    hint("logprobs", _SDKS, "Log-probabilities, as in responses.", list),
    hint("parsed", "OpenAI's SDK for Python", "The text once more, from parse().", dict, list),
)

ITEM = table(
    hint("phase", f"{_CODEX}, OpenAI's SDKs", "Whether a message was the final one.", str),
    hint("internal_chat_message_metadata_passthrough", _CODEX, "Notes of the client.", dict),
    hint("created_by", _SDKS, "The author of the item.", str),
    hint("caller", _SDKS, "What has made the call.", dict),
    hint("agent", _SDKS, "Which agent has made the item.", dict),
    hint("parsed_arguments", "OpenAI's SDK for Python", "The arguments, from parse()."),
    hint("provider_data", "OpenAI's Agents SDK", "Notes of another provider.", dict),
)

REASONING = table(
    hint("generate_summary", _SDKS, "The old name of summary.", str),
    hint("context", _SDKS, "Which reasoning to keep. There is none.", str),
    hint("encrypted_content", _SDKS, "Whether reasoning is encrypted. There is none.", bool),
)
