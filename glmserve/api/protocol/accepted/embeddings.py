"""Fields of embeddings that have no effect."""

from __future__ import annotations

from glmserve.api.protocol.accepted.fields import hint, neutral, table

EMBEDDINGS = table(
    hint("user", "OpenAI's SDKs, Dify", "Your name of the end user.", str),
    hint("metadata", "LiteLLM", "Your own notes about the request.", dict),
    hint("request_id", "vLLM's clients, ZhipuAI's SDKs", "Your id of the request.", str),
    hint("rid", "vllm-router, SGLang gateway", "Your id of the request.", str, list),
    hint(
        "input_type",
        "Dify, NVIDIA's and Voyage's clients",
        "Whether a text is a query or a document; this model treats both alike.",
        str,
    ),
    neutral("truncate", ["NONE"], "NVIDIA's clients", "Cuts inputs.", "use truncate_prompt_tokens"),
    hint("mm_processor_kwargs", "vLLM's clients", "How to read pictures; there are none.", dict),
    neutral(
        "embed_dtype",
        ["float32"],
        "vLLM's clients",
        "The type of the numbers.",
        "they are float32",
    ),
    neutral(
        "endianness",
        ["native", "little"],
        "vLLM's clients",
        "The order of bytes in base64.",
        "they are little-endian",
    ),
    neutral("padding", ["do_not_pad"], "vLLM's clients", "Pads inputs.", "vectors need none"),
    neutral("normalize", [True], "TEI's clients", "Scales to length 1.", "vectors have length 1"),
    neutral("use_activation", [True], "vLLM's clients", "Scales to length 1.", "they have it"),
)
