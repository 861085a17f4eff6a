"""Notes about a request: fields of chat completions and of completions."""

from __future__ import annotations

from glmserve.api.protocol.accepted.fields import hint, neutral, table

_OPENAI = "OpenAI's SDKs"

NOTES = table(
    hint("metadata", f"{_OPENAI}, LiteLLM", "Your own notes about the request.", dict),
    hint("meta", "ZhipuAI's SDKs", "Your own notes about the request.", dict),
    hint("safety_identifier", _OPENAI, "Your name of the end user, for moderation.", str),
    hint("prompt_cache_key", f"{_OPENAI}, Codex CLI", "Groups equal prompts; they are found.", str),
    hint("prompt_cache_retention", _OPENAI, "How long a prompt is kept.", str),
    hint("verbosity", _OPENAI, "How long answers are; models are not trained for it.", str, int),
    neutral("modalities", [["text"]], _OPENAI, "The kinds of output.", "the models write text"),
    hint("store", _OPENAI, "Keeps the answer for the service's own pages; here are none.", bool),
)
