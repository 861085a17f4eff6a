"""Fields of Anthropic's messages that have no effect."""

from __future__ import annotations

from glmserve.api.protocol.accepted.fields import hint, table

_SDKS, _CODE = "Anthropic's SDKs", "Claude Code"
_BOTH = f"{_CODE}, {_SDKS}"
_ACCOUNT = "Concerns the account that is billed."

CACHE_CONTROL = table(
    hint(
        "cache_control",
        f"{_BOTH}, LiteLLM",
        "Where the prompt may be cached; every prompt is cached.",
        dict,
    ),
)

MESSAGES = table(
    hint("metadata", _BOTH, "Your own notes about the request.", dict),
    hint("context_management", _BOTH, "What to remove from a long conversation.", dict),
    hint("speed", _BOTH, "How fast to answer; there is one speed.", str),
    hint("betas", _SDKS, "Names of new features.", list),
    hint("anthropic_beta", "clients of Bedrock", "Names of new features.", list),
    hint("anthropic_version", "clients of Bedrock and Vertex", "Version of the API.", str),
    hint("container", _SDKS, "Where the server's own tools run; there are none.", str, dict),
    hint("diagnostics", _BOTH, "Adds notes about the cache.", dict),
    hint("inference_geo", _SDKS, "Where to compute.", str),
    hint("fallbacks", _SDKS, "Models to use if this one refuses.", list, str),
    hint("fallback_credit_token", _SDKS, _ACCOUNT, str),
    hint("billing_policy", _SDKS, _ACCOUNT, dict),
    hint("user_profile_id", _SDKS, _ACCOUNT, str),
    hint("workspace_id", _SDKS, _ACCOUNT, str),
    also=CACHE_CONTROL,
)

OUTPUT_CONFIG = table(
    hint("effort", _BOTH, "How much work to do; models are not trained for it.", str),
    hint("task_budget", _BOTH, "Tokens for a whole task.", dict),
)

TOOL_PARAM = table(
    hint("defer_loading", _BOTH, "Shows the tool later; all are shown.", bool),
    hint("eager_input_streaming", f"{_BOTH}, the AI SDK", "Streams arguments; always done.", bool),
    hint("input_examples", _BOTH, "Examples of arguments.", list),
    hint("allowed_callers", _BOTH, "Callers of the tool; the model calls it.", list),
    also=CACHE_CONTROL,
)

TEXT_BLOCK = table(
    hint("citations", _SDKS, "Sources of the text, as in messages.", list),
    also=CACHE_CONTROL,
)

DOCUMENT_BLOCK = table(
    hint("citations", _SDKS, "Asks for sources; these models name none.", dict),
    also=CACHE_CONTROL,
)

TOOL_USE_BLOCK = table(
    hint("caller", _SDKS, "The caller of the tool: the model.", dict),
    also=CACHE_CONTROL,
)
