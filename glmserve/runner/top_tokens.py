"""The most likely tokens of each row, in an order that depends on the row alone.

`topk` chooses freely among equal numbers, and differently for different counts. In bfloat16 equal
logits are common.
"""

from __future__ import annotations

import torch
from torch import Tensor


def top_tokens(log_probs: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` greatest numbers of each row, and their ids; of equal ones the lowest ids first.

    Does not wait for a GPU.

    Args:
        log_probs: float32 [n, V]; overwritten. V >= count.

    Returns:
        float32 [n, count] in descending order, and int64 [n, count].
    """
    if count == 0:
        return log_probs[:, :0].clone(), log_probs.new_empty(len(log_probs), 0, dtype=torch.int64)
    more = min(count + 1, log_probs.shape[1])
    values, ids = log_probs.topk(more, dim=1)
    # An equal number, perhaps with a lower id, is left out.
    is_cut = values[:, -1] == values[:, count - 1]
    values, ids = values[:, :count], ids[:, :count]
    if more > count and (not is_cut.is_cpu or bool(is_cut.any())):
        ids = _with_lowest_ids(log_probs, values, ids)
    ids, order = ids.sort(dim=1)
    values, order = values.gather(1, order).sort(dim=1, descending=True, stable=True)
    return values, ids.gather(1, order)


def _with_lowest_ids(log_probs: Tensor, values: Tensor, ids: Tensor) -> Tensor:
    """The ids, but of the numbers that equal the last value the lowest ones."""
    last = values[:, -1:]
    num_above = (values > last).sum(dim=1, keepdim=True)
    is_other = log_probs != last
    descending = -torch.arange(log_probs.shape[1], device=log_probs.device, dtype=torch.float32)
    lowest = log_probs.copy_(descending).masked_fill_(is_other, float("-inf")).topk(values.shape[1])
    place = torch.arange(values.shape[1], device=ids.device)
    equal = lowest.indices.gather(1, (place - num_above).clamp(min=0))
    return torch.where(place < num_above, ids, equal)
