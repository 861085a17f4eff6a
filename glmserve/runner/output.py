"""The output of a step as tensors, before it is copied to the host."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from glmserve.contract.step import Logprobs, SamplingInput, StepInput, StepOutput
from glmserve.runner.logprobs import LogprobReader, TokenScores


@dataclass(frozen=True)
class OutputTensors:
    """A future StepOutput: tensors on the device, copied to the host together."""

    step: StepInput
    token_ids: Tensor
    """int64 [S]: the chosen tokens, in the order of the sampling inputs."""
    asking: Mapping[int, SamplingInput]
    """By the index of a chosen token, how it was chosen, where log-probabilities are reported."""
    chosen: TokenScores | None
    """Log-probabilities of these tokens, in order; None: there are none."""
    scores: list[TokenScores]
    """One for each scored sequence, in order."""
    sums: list[Tensor]
    """float32 [H]: sums of last hidden states, one for each pooled sequence, in order."""

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors, in the order of `to_output`."""
        scores = [*([self.chosen] if self.chosen else []), *self.scores]
        return [self.token_ids, *(t for score in scores for t in score), *self.sums]

    def to_output(self, tensors: Iterable[Tensor]) -> StepOutput:
        """Make the StepOutput of `tensors` on the host, in the order of the property."""
        rest = iter(tensors)
        token_ids = next(rest).tolist()
        logprobs: list[Logprobs | None] = []
        if self.chosen is not None:
            asking = self.asking.values()
            read = _take_scores(rest).as_logprobs(
                [s.top_logprobs or 0 for s in asking], [s.logprob_token_ids for s in asking]
            )
            by_row = dict(zip(self.asking, read, strict=True))
            logprobs = [by_row.get(i) for i in range(len(token_ids))]
        wanted = [s.score for s in self.step.sequences if s.score is not None]
        scores = [
            _take_scores(rest).as_logprobs([score.top_logprobs] * len(score.targets))
            for score in wanted
        ]
        pooled = [tensor.numpy().tobytes() for tensor in rest]
        return StepOutput(self.step.step_id, token_ids, logprobs, scores, pooled)


def _take_scores(tensors: Iterable[Tensor]) -> TokenScores:
    return TokenScores(*islice(tensors, len(TokenScores._fields)))


def read_prompts(
    step: StepInput,
    hidden: Tensor,
    reader: LogprobReader,
    to_logits: Callable[[Tensor], Tensor],
) -> tuple[list[TokenScores], list[Tensor]]:
    """Compute `scores` and `sums` of OutputTensors.

    Args:
        hidden: [n, H], last hidden states of all tokens of scored or pooled sequences, in order.
        reader: computes log-probabilities.
        to_logits: the model's output layer.
    """
    scores: list[TokenScores] = []
    sums: list[Tensor] = []
    start = 0
    if not len(hidden):
        return scores, sums
    for sequence in step.sequences:
        if not sequence.is_read_whole:
            continue
        rows = hidden[start : start + len(sequence.token_ids)]
        start += len(rows)
        if sequence.score is not None:
            scores.append(reader.score(rows, sequence.score, to_logits))
        if sequence.pool:
            sums.append(torch.sum(rows, dim=0, dtype=torch.float32))
    return scores, sums
