"""What graphs compute in a step."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class StepResult(NamedTuple):
    """What the model computes in a step. S sampled tokens, R tokens of prompts read whole."""

    logits: Tensor | None
    """float32 [S, V], in the order of the sampling inputs; None: the step samples nothing."""
    hidden: Tensor
    """float32 [R, H]: last hidden states of sequences that are scored or pooled, in order."""
