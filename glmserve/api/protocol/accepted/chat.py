"""Fields of chat completions that have no effect."""

from __future__ import annotations

from glmserve.api.protocol.accepted.fields import hint, neutral, table

CHAT = table(
    hint("metadata", "OpenAI's SDKs", "Your own notes about the request.", dict),
    hint("safety_identifier", "OpenAI's SDKs", "Your name of the end user, for moderation.", str),
    hint(
        "prompt_cache_key",
        "OpenAI's SDKs, Codex CLI",
        "Groups requests with equal beginnings; these are found without it.",
        str,
    ),
    hint(
        "prompt_cache_retention",
        "OpenAI's SDKs",
        "How long to keep the prompt; the cache keeps what was used last.",
        str,
    ),
    hint(
        "reasoning_effort",
        "OpenAI's SDKs, Cline, LobeChat",
        "How much to reason. These models do not reason.",
        str,
    ),
    hint(
        "reasoning", "OpenRouter's clients", "How much to reason. These models do not reason.", dict
    ),
    hint(
        "verbosity",
        "OpenAI's SDKs",
        "How long answers are; these models were not trained for it.",
        str,
    ),
    neutral(
        "modalities",
        [["text"]],
        "OpenAI's SDKs",
        "The kinds of output.",
        "these models write text only",
    ),
    neutral(
        "store",
        [False],
        "OpenAI's SDKs",
        "Keeps the answer at the server.",
        "/v1/responses stores answers",
    ),
    neutral(
        "echo",
        [False],
        "vLLM, vllm-router",
        "Begins the answer with the last message.",
        "echo of /v1/completions repeats the prompt",
    ),
    neutral(
        "functions",
        [[]],
        "OpenAI's older SDKs",
        "Offers functions to the model.",
        "its newer name is tools",
    ),
    neutral(
        "function_call",
        ["none", "auto"],
        "OpenAI's older SDKs",
        "Which function must be called.",
        "its newer name is tool_choice",
    ),
    neutral(
        "best_of",
        [1],
        "vLLM",
        "Makes so many answers and returns the most likely ones.",
        "best_of of /v1/completions does this; n makes several answers",
    ),
)

TEMPLATE_ARGUMENTS = table(
    hint(
        "enable_thinking",
        "Qwen's clients, GuideLLM, SGLang gateway",
        "Switches reasoning on or off. These models do not reason.",
        bool,
    ),
    hint(
        "thinking",
        "DeepSeek's clients",
        "Switches reasoning on or off. These models do not reason.",
        bool,
        str,
        dict,
    ),
    hint(
        "clear_thinking",
        "ZhipuAI's clients",
        "Leaves the reasoning of earlier turns out. These models do not reason.",
        bool,
    ),
    hint(
        "reasoning_effort",
        "vLLM's clients",
        "How much to reason. These models do not reason.",
        str,
    ),
    neutral(
        "add_generation_prompt",
        [True],
        "vLLM's clients",
        "Whether the prompt ends where the answer begins.",
        "send it as a field of the request",
    ),
)

NAMED_MESSAGE = table(
    hint(
        "name",
        "AutoGen, Semantic Kernel, LangChain, Haystack",
        "The name of the participant; the prompts of these models have no place for it.",
        str,
    ),
)

ASSISTANT_MESSAGE = table(
    hint(
        "annotations",
        "OpenAI's SDKs",
        "Where the text of an earlier answer comes from.",
        list,
    ),
    hint("weight", "OpenAI's SDKs", "How much a message counts in training.", int),
    also=NAMED_MESSAGE,
)

TEXT_PART = table(
    hint(
        "cache_control",
        "LiteLLM, OpenRouter's clients, Cline",
        "Where a prompt may be cached; every prompt is cached.",
        dict,
    ),
)

REASONING_HISTORY = table(
    hint(
        "reasoning_content",
        "LiteLLM, Cline, DeepSeek's and ZhipuAI's clients",
        "What another model thought; the prompts of these models have no place for it.",
        str,
    ),
    hint(
        "reasoning",
        "vLLM, OpenRouter's clients",
        "What another model thought; the prompts of these models have no place for it.",
        str,
    ),
)
