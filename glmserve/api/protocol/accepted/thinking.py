"""Fields that switch or limit reasoning, where they are hints: in completions, which are raw text,
and as variables of templates. Conversations honour them; see `protocol/thinking.py`."""

from __future__ import annotations

from glmserve.api.protocol.accepted.fields import hint, table

_SWITCH = "Switches reasoning on or off."
_LIMIT = "How long to reason."
_PLACE = "Where reasoning goes in the response."

SWITCHES = table(
    hint("enable_thinking", "Qwen's clients, Dify, LobeChat, SGLang", _SWITCH, bool),
    hint("thinking", "ZhipuAI's and DeepSeek's clients, Cline, Dify", _SWITCH, dict, bool, str),
    hint("thinking_mode", "DeepSeek's and Minimax' clients", _SWITCH, str, bool),
    hint("think", "Ollama's clients", _SWITCH, bool, str),
    hint("reasoning_effort", "OpenAI's SDKs, Cline, LobeChat, vLLM's clients", _LIMIT, str),
    hint("thinking_budget", "Qwen's clients, SiliconFlow's clients", _LIMIT, int),
    hint("clear_thinking", "ZhipuAI's clients", "Leaves earlier reasoning out.", bool),
    hint("preserve_thinking", "Qwen's clients", "Keeps earlier reasoning; there is none.", bool),
)
"""Of a request, or of its `chat_template_kwargs`."""

THINKING = table(
    hint("thinking_token_budget", "vLLM's clients", _LIMIT, int),
    hint("thinking_budget_tokens", "llama.cpp's clients", _LIMIT, int),
    hint("reasoning_budget", "llama.cpp's clients", _LIMIT, int),
    hint("reasoning", "OpenRouter's clients", _LIMIT, dict),
    hint("prompt_mode", "Mistral's clients", _SWITCH, str),
    hint("include_reasoning", "vllm-router, vLLM's and OpenRouter's clients", _PLACE, bool),
    hint("separate_reasoning", "vllm-router, SGLang gateway", _PLACE, bool),
    hint("stream_reasoning", "vllm-router, SGLang gateway", _PLACE, bool),
    hint("require_reasoning", "SGLang's clients", _SWITCH, bool),
    hint("reasoning_format", "llama.cpp's and Groq's clients", _PLACE, str),
    hint("reasoning_in_content", "llama.cpp's clients", _PLACE, bool),
    hint("reasoning_split", "Minimax' clients", _PLACE, bool),
    also=SWITCHES,
)
