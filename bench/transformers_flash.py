"""torch's flash attention as an attention of transformers' continuous batching.

transformers takes flash attention from the flash-attn package or from a hub. torch has it built in:
for sequences of any lengths side by side, but not for block tables. So K and V of all tokens of a
batch are gathered from the paged cache in each layer, as with any flash attention but in
transformers' path for steps of decodes only, which needs block tables.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

NAME = "torch_flash"
"""By "flash" in it transformers knows that attention builds no mask of the batch. It then records
CUDA graphs and prepares a batch while the one before it runs."""
_DTYPES = (torch.bfloat16, torch.float16)


def missing(dtype: torch.dtype, device: torch.device) -> str | None:
    """Why torch has no flash attention for such activations here; None if it has."""
    if device.type != "cuda":
        return f"torch has flash attention for CUDA, not for {device.type}"
    if dtype not in _DTYPES:
        return f"flash attention takes bfloat16 and float16, not {dtype}"
    if not torch.backends.cuda.is_flash_attention_available():
        return "torch was built without flash attention"
    if torch.version.hip is None and torch.cuda.get_device_capability(device) < (8, 0):
        return f"{torch.cuda.get_device_name(device)} is older than sm_80"
    return None


def attend_sequences(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    query_ends: Tensor,
    key_ends: Tensor,
    most_queries: int,
    most_keys: int,
    scale: float,
) -> Tensor:
    """Causal attention within each sequence: its last query attends to all of its keys.

    Args:
        query: [query tokens, heads, head size], float16 or bfloat16.
        key, value: [key tokens, key heads, head size]; a key head serves several heads.
        query_ends, key_ends: int32 [sequences + 1], 0 and where each sequence ends.
        most_queries, most_keys: no sequence has more.

    Returns: [query tokens, heads, head size]; behind the last sequence it is undefined.
    """
    arguments = (query, key, value, query_ends, key_ends, most_queries, most_keys)
    output: Tensor
    output, *_ = torch.ops.aten._flash_attention_forward(*arguments, 0.0, True, False, scale=scale)
    return output


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    cu_seq_lens_q: Tensor,
    cu_seq_lens_k: Tensor,
    max_length_q: int,
    max_length_k: int,
    **_: Any,
) -> tuple[Tensor, None]:
    """What transformers calls in each layer, when K and V are in the paged cache.

    Args:
        query: [1, heads, query tokens, head size].
        key, value: [1, key heads, key tokens, head size], of all tokens of the batch's sequences.

    Returns: [1, query tokens, heads, head size], and no weights of attention.
    """
    query, key, value = (states.squeeze(0).transpose(0, 1) for states in (query, key, value))
    output = attend_sequences(
        *(query, key, value, cu_seq_lens_q, cu_seq_lens_k, max_length_q, max_length_k, scaling)
    )
    return output.unsqueeze(0), None


AttentionInterface.register(NAME, attend)
