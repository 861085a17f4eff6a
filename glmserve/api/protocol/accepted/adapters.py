"""Fields of /v1/load_lora_adapter that have no effect."""

from __future__ import annotations

from glmserve.api.protocol.accepted.fields import neutral, table

LOAD_LORA_ADAPTER = table(
    neutral(
        "is_3d_lora_weight",
        [False],
        "vLLM's clients",
        "The weights of all experts are one tensor.",
        "no model here has experts",
    ),
)
