"""Chooses tokens on the device, by the rules of sampler.py and token_masks.py.

Nothing here waits for the device. The options of all rows are copied to it in one transfer; if all
rows are greedy there is nothing to copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glmserve.contract.sampling import GREEDY_BELOW
from glmserve.contract.step import SamplingInput
from glmserve.ops.packed_arrays import upload_together
from glmserve.ops.uploads import Uploads
from glmserve.runner.adjustments import Adjustments, gather_adjustments
from glmserve.runner.token_bitmask import Words, ban, bits_of_mask, bits_of_range
from glmserve_kernels.adjust_logits.kernel import adjust_logits
from glmserve_kernels.most_likely_token.kernel import most_likely_token
from glmserve_kernels.sample.kernel import sample
from glmserve_kernels.tiles import load_tiles


class DeviceSampler:
    """Samples rows of logits over one vocabulary.

    Args:
        vocab_limit: ids from here on are never chosen; None: no limit.
        never_sampled: further ids that are never chosen.
        uploads: to the device of the logits.
        chip: selects the tile sizes of the kernels, see load_tiles.
    """

    def __init__(
        self,
        vocab_size: int,
        vocab_limit: int | None,
        never_sampled: Sequence[int],
        uploads: Uploads,
        chip: str,
    ) -> None:
        self._vocab_size = vocab_size
        self._uploads = uploads
        self._everything = bits_of_range(vocab_size, vocab_size)
        limit = vocab_size if vocab_limit is None else vocab_limit
        allowed = bits_of_range(limit, vocab_size, without=never_sampled)
        self._allowed = torch.from_numpy(allowed).to(uploads.device)
        self._tiles = {
            name: load_tiles(name, chip)
            for name in ("adjust_logits", "most_likely_token", "sample")
        }

    def sample(
        self, logits: Tensor, inputs: Sequence[SamplingInput], masks: Sequence[bytes]
    ) -> Tensor:
        """Choose one id for each row.

        Args:
            logits: float32 [S, V] on the device; overwritten.
            inputs: how to choose, for each row.
            masks: one for each constrained input, in order; see TokenMasks.

        Returns:
            int64 [S] on the device; INVALID_TOKEN_ID for a row that is not finite.
        """
        out = torch.empty(len(inputs), dtype=torch.int64, device=self._uploads.device)
        if all(s.takes_most_likely for s in inputs):
            most_likely_token(
                logits=logits,
                allowed=self._allowed,
                out=out,
                tiles=self._tiles["most_likely_token"],
            )
            return out
        rows, mask_bits, banned = self._restrictions(inputs, masks)
        adjustments = gather_adjustments(inputs, banned, self._vocab_size)
        arrays = {**_options(inputs, self._vocab_size), "mask_rows": rows}
        if mask_bits:
            arrays["masks"] = np.stack(mask_bits)
        if adjustments is not None:
            arrays |= adjustments._asdict()
        there = upload_together(arrays, self._uploads)
        there.setdefault("masks", self._allowed[None])
        if adjustments is not None:
            entries = {name: there.pop(name) for name in Adjustments._fields}
            adjust_logits(logits=logits, **entries, tiles=self._tiles["adjust_logits"])
        sample(logits=logits, **there, allowed=self._allowed, out=out, tiles=self._tiles["sample"])
        return out

    def _restrictions(
        self, inputs: Sequence[SamplingInput], masks: Sequence[bytes]
    ) -> tuple[NDArray[np.int32], list[Words], list[Sequence[int]]]:
        """What limits the ids of each row.

        Returns:
            int32 [S]: index of the row's mask, or -1; the masks as bits; and for each row the
            banned ids that are not part of its mask.
        """
        rows = np.full(len(inputs), -1, dtype=np.int32)
        if not any(s.constrained or s.banned for s in inputs):
            return rows, [], [()] * len(inputs)
        bits: list[Words] = []
        banned: list[Sequence[int]] = []
        given = iter(masks)
        for row, s in enumerate(inputs):
            barred = [i for i in s.banned if i < self._vocab_size]
            mask = next(given) if s.constrained else b""
            if mask:  # an empty one restricts nothing
                words = bits_of_mask(mask, self._vocab_size)
                rows[row] = len(bits)
                bits.append(ban(words, barred, self._everything) if barred else words)
                barred = []
            banned.append(barred)
        return rows, bits, banned


def _options(inputs: Sequence[SamplingInput], vocab_size: int) -> dict[str, NDArray[Any]]:
    """The arguments of the sample kernel, one number per row each."""
    rows = [s.sampling for s in inputs]
    temperatures = np.array([row.temperature for row in rows])
    temperatures[temperatures < GREEDY_BELOW] = 0
    top_k = np.array([row.top_k for row in rows])
    return {
        "temperature": temperatures.astype(np.float32),
        "top_k": np.minimum(top_k, vocab_size).astype(np.int32),
        "top_p": np.array([row.top_p for row in rows], dtype=np.float64),
        "min_p": np.array([row.min_p for row in rows], dtype=np.float32),
        "noise_key": np.array([s.noise_key for s in inputs], dtype=np.uint64).view(np.int64),
    }
