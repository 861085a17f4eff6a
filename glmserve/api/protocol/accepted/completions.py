"""Fields of completions that have no effect; those of `generation.py` belong to it as well."""

from __future__ import annotations

from glmserve.api.protocol.accepted.fields import hint, neutral, table
from glmserve.api.protocol.accepted.notes import NOTES

_ROUTERS = "vllm-router, SGLang gateway"

COMPLETIONS = table(
    neutral(
        "suffix",
        [""],
        "OpenAI's SDKs, Continue",
        "Text that follows behind the completion.",
        "these models were not trained to fill gaps",
    ),
    neutral("prompt_embeds", [[]], "vLLM's clients", "Prompts as vectors.", "send text or ids"),
    hint("service_tier", "OpenAI's SDKs", "How fast to answer; there is one tier.", str),
    neutral(
        "continue_final_message",
        [False],
        _ROUTERS,
        "Continues a message; there are none.",
        "a prompt is always continued",
    ),
    neutral("add_generation_prompt", [True], _ROUTERS, "Begins an answer.", "there is no format"),
    hint("chat_template_kwargs", _ROUTERS, "Variables of a template; none is used.", dict),
    neutral("tools", [[]], _ROUTERS, "Offers tools.", "use /v1/chat/completions"),
    neutral("tool_choice", ["none", "auto"], _ROUTERS, "Requires a call.", "use chat completions"),
    hint("parallel_tool_calls", _ROUTERS, "Allows several calls; there are none.", bool),
    also=NOTES,
)
