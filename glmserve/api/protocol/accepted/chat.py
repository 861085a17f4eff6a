"""Fields of chat completions that have no effect; those of `generation.py` belong to it as well."""

from __future__ import annotations

from glmserve.api.protocol.accepted.fields import hint, neutral, table
from glmserve.api.protocol.accepted.notes import NOTES
from glmserve.api.protocol.accepted.thinking import SWITCHES

_OPENAI, _OLDER = "OpenAI's SDKs", "OpenAI's older SDKs"
_AGENTS = "OpenAI's Agents SDK for Node"
_TEMPLATES = "vLLM's and SGLang's clients"
_NO_PLACE = "the prompts of these models have no place for it"
_CACHED = "Where a prompt may be cached; every prompt is cached."

CHAT = table(
    neutral("functions", [[]], _OLDER, "Offers functions.", "its newer name is tools"),
    neutral("function_call", ["none", "auto"], _OLDER, "Requires a call.", "use tool_choice"),
    neutral("best_of", [1], "vLLM's clients", "Returns likely texts.", "n makes several answers"),
    neutral("add_special_tokens", [False], "vLLM's clients", "Adds marks.", "the format has them"),
    neutral("chat_template", [""], "vLLM's clients", "Formats the prompt.", "use /v1/completions"),
    also=NOTES,
)

_AS_FIELD = "send it as a field of the request"

TEMPLATE_ARGUMENTS = table(
    neutral("add_generation_prompt", [True], _TEMPLATES, "Begins the answer.", _AS_FIELD),
    neutral("continue_final_message", [False], _TEMPLATES, "Continues a message.", _AS_FIELD),
    neutral("tools", [[]], _TEMPLATES, "Offers tools.", _AS_FIELD),
    neutral("documents", [[]], _TEMPLATES, "Texts to answer from.", "put them into a message"),
    neutral("chat_template", [""], _TEMPLATES, "Formats the prompt.", "use /v1/completions"),
    also=SWITCHES,
)
"""Of `chat_template_kwargs`. All other names are hints."""

MESSAGE = table(
    hint("id", "LangChain, Vercel's AI SDK", "The message's id.", str),
    hint("cache_control", "LiteLLM, OpenRouter's clients", _CACHED, dict),
)

ASSISTANT_MESSAGE = table(
    hint("annotations", f"{_OPENAI}, Spring AI", "Sources of an earlier answer.", list),
    hint("weight", _OPENAI, "How much a message counts in training.", int),
    hint("provider_specific_fields", "LiteLLM", "What another service answered.", dict),
    hint("thinking_blocks", "LiteLLM", f"What another model thought; {_NO_PLACE}.", list),
    hint("reasoning_details", "OpenRouter's clients, Cline", f"Thoughts; {_NO_PLACE}.", list),
    neutral("images", [[]], "OpenRouter's clients", "Pictures.", "these models read text"),
    also=MESSAGE,
)

TEXT_PART = table(
    hint("cache_control", "LiteLLM, OpenRouter's clients, Cline", _CACHED, dict),
    hint("prompt_cache_breakpoint", _OPENAI, _CACHED, dict),
    hint("annotations", "LangChain", "Sources of an earlier answer.", list),
    hint("id", "LangChain", "The part's id.", str),
    hint("index", "LangChain", "The part's place in a stream.", int, str),
    hint("role", _AGENTS, "The message's role once more.", str),
    hint("tool_calls", _AGENTS, "The message's calls once more.", list),
    neutral("refusal", [""], _AGENTS, "Why the model refused.", "send it as text"),
)

TOOL = table(
    hint("cache_control", "LiteLLM, OpenRouter's clients", _CACHED, dict),
    hint("defer_loading", "vLLM's clients", "Shows a tool later; it is always shown.", bool),
)

TOOL_CALL = table(
    hint("index", _OPENAI, "The place of a call, as in chunks.", int),
    hint("provider_specific_fields", "LiteLLM", "What another service answered.", dict),
    hint("extra_content", "Gemini's clients", "What another service answered.", dict),
    hint("cache_control", "LiteLLM", _CACHED, dict),
)

FUNCTION_CALL = table(
    hint("parsed_arguments", f"{_OPENAI}: parse()", "The arguments once more."),
    hint("provider_specific_fields", "LiteLLM", "What another service answered.", dict),
)
