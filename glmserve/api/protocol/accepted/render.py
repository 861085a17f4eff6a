"""Fields of requests for prompts, besides those of the requests whose prompts they are."""

from __future__ import annotations

from glmserve.api.protocol.accepted.fields import hint, table

RENDER = table(
    hint(
        "return_token_offsets",
        "vLLM's clients",
        "Asks where in the text each token lies; these tokenizers do not say, so it is null.",
        bool,
    ),
    hint(
        "mm_payload",
        "vLLM's clients",
        "How pictures are returned; these models read none.",
        str,
    ),
    hint(
        "return_mm_kwargs",
        "vLLM's clients",
        "Whether pictures are returned; these models read none.",
        bool,
    ),
)
