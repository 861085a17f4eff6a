"""Fields of every request for generated text; chat completions, completions and responses."""

from __future__ import annotations

from glmserve.api.protocol.accepted.fields import hint, neutral, table

_NO_REASONING = "These models do not reason, so there is nothing to set apart."

ROUTERS = table(
    neutral(
        "no_stop_trim",
        [False],
        "vllm-router, SGLang gateway",
        "Keeps what ended the text.",
        "include_stop_str_in_output does this",
    ),
    neutral(
        "return_hidden_states",
        [False],
        "vllm-router, SGLang gateway",
        "Adds the model's hidden states to the response.",
        "/v1/embeddings has vectors of texts",
    ),
    hint(
        "separate_reasoning",
        "vllm-router, SGLang gateway",
        f"Puts the reasoning into a field of its own. {_NO_REASONING}",
        bool,
    ),
    hint(
        "stream_reasoning",
        "vllm-router, SGLang gateway",
        f"Streams the reasoning. {_NO_REASONING}",
        bool,
    ),
    hint(
        "include_reasoning",
        "vLLM, vllm-router, OpenRouter",
        f"Shows the reasoning. {_NO_REASONING}",
        bool,
    ),
    hint("rid", "SGLang", "The request's id in the log of the server.", str),
    hint("request_id", "vLLM, ZhipuAI", "The request's id in the server.", str),
)

THINKING = table(
    hint(
        "enable_thinking",
        "Qwen's and DashScope's clients, LobeChat, Dify",
        "Switches reasoning on or off. These models do not reason.",
        bool,
    ),
    hint(
        "thinking",
        "ZhipuAI, DeepSeek's and Anthropic's clients by LiteLLM",
        "Switches reasoning on or off. These models do not reason.",
        dict,
        bool,
        str,
    ),
    hint(
        "thinking_budget",
        "Qwen's and DashScope's clients, SiliconFlow",
        "The most tokens of reasoning. These models do not reason.",
        int,
    ),
    hint(
        "thinking_token_budget",
        "vLLM",
        "The most tokens of reasoning. These models do not reason.",
        int,
    ),
)

BEAMS = table(
    neutral(
        "use_beam_search",
        [False],
        "vLLM",
        "Searches for the most likely text.",
        "this server samples; best_of of /v1/completions returns the most likely texts",
    ),
    neutral(
        "length_penalty",
        [1],
        "vLLM",
        "Prefers long or short texts in a beam search.",
        "this server has no beam search",
    ),
    neutral(
        "early_stopping",
        [False],
        "vLLM, Hugging Face's clients",
        "Ends a beam search early.",
        "this server has no beam search",
    ),
    neutral(
        "num_beams",
        [1],
        "Hugging Face's clients",
        "The number of beams of a beam search.",
        "this server has no beam search",
    ),
)

GENERATION = table(
    *ROUTERS.values(),
    *THINKING.values(),
    *BEAMS.values(),
    hint("user", "OpenAI's SDKs, Dify, LobeChat", "Your name of the end user.", str),
    hint(
        "spaces_between_special_tokens",
        "vLLM",
        "Whether blanks stand between the names of special tokens; here none do.",
        bool,
    ),
    hint("guided_decoding_backend", "vLLM", "The engine of structured output; there is one.", str),
    hint(
        "cache_prompt",
        "llama.cpp's clients",
        "Keeps the prompt for later requests; every prompt is kept.",
        bool,
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
