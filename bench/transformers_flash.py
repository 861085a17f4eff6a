"""torch's flash attention as an attention of transformers' continuous batching.

transformers takes flash attention from the flash-attn package or from a hub, and has two paths:

* a step with prompts gathers K and V of all tokens of its sequences from the paged cache;
* a step of decodes only lets the package read the cache by a block table. torch reads it by rows
  instead, so a sequence must fit into one page.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest.mock import patch

from torch import Tensor, nn
from torch.nn.functional import pad
from transformers import AttentionInterface

from flash_attention import attend_rows, attend_sequences

NAME = "torch_flash_2"
"""By "flash" in it transformers knows that attention builds no mask of the batch. It then records
CUDA graphs and prepares a batch while the one before it runs. By "2" it expects block tables."""


class Decodes(NamedTuple):
    """Where the sequences of a step of decodes lie in a cache [rows, key heads, head size]."""

    starts: Tensor
    """int32 [sequences + 1], the first row of each; one number more."""
    counts: Tensor
    """int32 [sequences], rows of each, with that of this step; 0: there is no sequence."""
    news: Tensor
    """int64 [sequences], the row of this step."""
    most: int
    """No sequence has more rows."""


def find_decodes(block_table: Tensor, key_ends: Tensor, page: int) -> Decodes:
    """From what transformers has.

    Args:
        block_table: int32 [sequences, pages], -1 where there is none.
        key_ends: int32 [sequences + 1], 0 and where the keys of each sequence end.
        page: rows of a page. A warm-up has more keys than that; the last row stands for them.
    """
    starts = block_table[:, 0].clamp(min=0) * page
    counts = key_ends.diff().clamp(max=page)
    news = (starts + (counts - 1).clamp(min=0)).long()
    return Decodes(pad(starts, (0, 1)), counts, news, page)


class TorchFlash:
    """The attention of all layers of a model: transformers calls it once for each."""

    def __init__(self) -> None:
        self._decodes: Decodes | None = None
        """Of this step: found in the first layer, the same in all."""

    def __call__(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        *,
        scaling: float,
        block_table: Tensor | None = None,
        **batch: Any,
    ) -> tuple[Tensor, None]:
        """See `AttentionInterface`.

        Args:
            query: [1, heads, query tokens, head size].
            key, value: [1, key heads, key tokens, head size]: of all tokens of the sequences, which
                the cache has already; with a block table of the new tokens, which it has not.
            batch: what continuous batching gives with them.

        Returns: [1, query tokens, heads, head size], and no weights of attention.
        """
        query, key, value = (states.squeeze(0).transpose(0, 1) for states in (query, key, value))
        if block_table is None:
            ends = batch["cu_seq_lens_q"], batch["cu_seq_lens_k"]
            most = batch["max_length_q"], batch["max_length_k"]
            return attend_sequences(query, key, value, *ends, *most, scaling).unsqueeze(0), None
        pages = batch["k_cache"], batch["v_cache"]
        if module.layer_idx == 0 or self._decodes is None:
            self._decodes = find_decodes(block_table, batch["cu_seq_lens_k"], pages[0].shape[1])
        starts, counts, news, most_keys = self._decodes
        keys, values = (cache.view(-1, *cache.shape[2:]) for cache in pages)
        keys.index_copy_(0, news, key)
        values.index_copy_(0, news, value)
        output = attend_rows(query, keys, values, starts, counts, most_keys, scaling)
        return output.unsqueeze(0), None


@contextmanager
def reading_in_place() -> Iterator[None]:
    """Continuous batching that starts meanwhile lets steps of decodes read the cache in place.

    It asks for a function of the flash-attn package before it does so.
    """
    from transformers.generation.continuous_batching import initialization

    found = (None, None, attend_rows, None, None), (None, None)
    with patch.object(initialization, "lazy_import_flash_attention", lambda *_: found):
        yield


AttentionInterface.register(NAME, TorchFlash())
