"""torch's own flash attention: for sequences of any lengths side by side.

It takes no block tables. But a sequence of keys may begin at any row, and have any number of rows:
so decodes can read a paged cache in place where each sequence has a single page.
"""

from __future__ import annotations

from itertools import accumulate

import torch
from torch import Tensor

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


def attend_rows(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    starts: Tensor,
    counts: Tensor,
    most_keys: int,
    scale: float,
) -> Tensor:
    """Attention of one query of each sequence to all of its keys.

    Args:
        query: [sequences, heads, head size], float16 or bfloat16.
        key, value: [rows, key heads, head size].
        starts: int32 [sequences + 1], the first row of each sequence; the last is not read.
        counts: int32 [sequences], how many rows follow from there; 0: the output is undefined.
        most_keys: no sequence has more.

    Returns: [sequences, heads, head size].
    """
    ends = torch.arange(len(query) + 1, dtype=torch.int32, device=query.device)
    arguments = (query, key, value, ends, starts, 1, most_keys, 0.0, False, False)
    output: Tensor
    output, *_ = torch.ops.aten._flash_attention_forward(*arguments, scale=scale, seqused_k=counts)
    return output


def wrong_rows(dtype: torch.dtype, device: torch.device) -> str | None:
    """Why `attend_rows` cannot be used here; None if it agrees with `attend_sequences`."""
    first, lengths = [5000, 3, 2048, 7000, 0], [700, 1, 64, 1024, 0]
    query = torch.randn(len(lengths), 32, 128, dtype=dtype, device=device)
    key, value = torch.randn(2, 8 * 1024, 2, 128, dtype=dtype, device=device)
    starts, ends, query_ends, counts = (
        torch.tensor(numbers, dtype=torch.int32, device=device)
        for numbers in ([*first, 0], [*accumulate(lengths, initial=0)], [*range(6)], lengths)
    )
    taken = [
        row for start, n in zip(first, lengths, strict=True) for row in range(start, start + n)
    ]
    try:
        found = attend_rows(query, key, value, starts, counts, 1024, 0.1)
        # Two queries at most, so that the operator computes the heads of a group apart.
        expected = attend_sequences(query, key[taken], value[taken], query_ends, ends, 2, 1024, 0.1)
    except RuntimeError as error:
        return str(error).partition("\n")[0]
    same = torch.isclose(found.float(), expected.float(), atol=2e-2, rtol=2e-2).flatten(1).all(1)
    wrong = [n for n, right in zip(lengths, same.tolist(), strict=True) if n and not right]
    return f"wrong numbers for {wrong} keys" if wrong else None
