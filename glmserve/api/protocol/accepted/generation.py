"""Fields of every request for generated text: chat completions, completions and responses."""

from __future__ import annotations

from glmserve.api.protocol.accepted.engines import BEAMS, LLAMA_CPP, SGLANG, VLLM
from glmserve.api.protocol.accepted.fields import hint, neutral, table
from glmserve.api.protocol.accepted.samplers import SAMPLERS
from glmserve.api.protocol.accepted.thinking import THINKING

_DASHSCOPE = "DashScope's clients"
_PERPLEXITY = "Perplexity's clients"
_SEARCH = "Searches the web."

SERVICES = table(
    hint(
        "user", "OpenAI's SDKs, Dify, Open WebUI, One API", "Your name of the end user.", str, dict
    ),
    hint("user_id", "ZhipuAI's SDKs", "Your name of the end user.", str),
    hint("sensitive_word_check", "ZhipuAI's SDKs", "Switches a filter of words; none here.", dict),
    hint("tool_stream", "ZhipuAI's SDKs", "Streams arguments of calls; this is always done.", bool),
    hint("watermark_enabled", "ZhipuAI's SDKs", "Marks sound; there is none.", bool),
    hint("provider", "OpenRouter's clients", "Which provider to use; there is one.", dict),
    hint("models", "OpenRouter's clients", "Models to use if this one fails.", list),
    hint("route", "OpenRouter's clients", "How to choose a provider.", str),
    hint("transforms", "OpenRouter's clients", "How to shorten what is too long; it fails.", list),
    hint("usage", "OpenRouter's clients", "Adds token counts; see stream_options.", dict),
    hint("caching", "Ark's clients", "Keeps the prompt; every prompt is kept.", dict),
    hint("incremental_output", _DASHSCOPE, "Whether chunks have new text only; they do.", bool),
    hint("result_format", _DASHSCOPE, "The shape of the response.", str),
    neutral("plugins", [[]], "OpenRouter's clients", "Tools of the server.", "there are none"),
    neutral("enable_search", [False], _DASHSCOPE, "Searches the web.", "there is no search"),
    neutral("search_parameters", [{"mode": "off"}], "xAI's clients", _SEARCH, "there is no search"),
    neutral("data_sources", [[]], "Azure's clients", _SEARCH, "there is no search"),
    neutral("return_images", [False], _PERPLEXITY, "Adds pictures.", "there are none"),
    neutral("return_related_questions", [False], _PERPLEXITY, "Adds questions.", "ask for them"),
    neutral("search_domain_filter", [[]], _PERPLEXITY, _SEARCH, "there is no search"),
    neutral("safe_prompt", [False], "Mistral's clients", "Adds a prompt.", "send it yourself"),
)

GENERATION = table(
    *(
        field
        for fields in (SERVICES, VLLM, SGLANG, LLAMA_CPP, BEAMS, SAMPLERS, THINKING)
        for field in fields.values()
    ),
)

STREAM_OPTIONS = table(
    neutral(
        "include_obfuscation",
        [False],
        "OpenAI's SDKs",
        "Makes all chunks of a stream equally long.",
        "chunks are as long as their text",
    ),
)

_WHITESPACE = "whitespace is JSON's"

STRUCTURED_OUTPUTS = table(
    hint("disable_fallback", "vLLM's clients", "Uses one engine only; there is one.", bool),
    neutral("disable_any_whitespace", [False], "vLLM's clients", "Compact JSON.", _WHITESPACE),
    neutral("whitespace_pattern", [""], "vLLM's clients", "The whitespace of JSON.", _WHITESPACE),
    neutral(
        "disable_additional_properties",
        [False],
        "vLLM's clients",
        "Forbids properties that a schema does not name.",
        "additionalProperties: false does this",
    ),
    neutral("structural_tag", [""], "vLLM's clients", "Structures within text.", "tools do this"),
)
