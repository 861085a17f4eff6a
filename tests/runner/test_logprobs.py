"""Log-probabilities of a long prompt, in the memory of a few of its rows."""

from __future__ import annotations

import torch
from absent_server import Account

from glmserve.contract.step import ScoreInput
from glmserve.ops.uploads import DirectUploads
from glmserve.runner.logprobs import LogprobReader

META = torch.device("meta")
VOCAB, TOKENS = 5000, 1000
ROWS_AT_ONCE = 64


def test_a_long_prompt_takes_the_memory_of_a_few_rows() -> None:
    """Logits and their logarithms of 64 rows exist at the same time, not those of all rows."""
    reader = LogprobReader(DirectUploads(META), VOCAB, torch.zeros(0, dtype=torch.int64))
    score = ScoreInput([0] * TOKENS, 3)
    with Account() as account:
        hidden = torch.empty(TOKENS, 8, device=META)
        start = account.live
        scores = reader.score(hidden, score, lambda rows: rows.new_empty(len(rows), VOCAB))
    assert scores.own.shape == (TOKENS,)
    of_rows = 2 * ROWS_AT_ONCE * VOCAB * torch.float32.itemsize
    of_results = 2 * TOKENS * (8 + 4 + 3 * (8 + 4))  # targets, own, top ids and their logarithms
    assert of_rows / 2 < account.peak - start <= of_rows + of_results
