"""What a step reports, while it is still tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from glmserve.contract.step import Logprobs, StepInput, StepOutput
from glmserve.runner.logprobs import LogprobReader, TokenScores


@dataclass(frozen=True)
class OutputTensors:
    """A StepOutput to be: tensors on the device, to be brought to the host together."""

    step: StepInput
    token_ids: Tensor
    """int64 [S]: of the sequences' places, in order."""
    asking: Mapping[int, int]
    """Of these, the rows that want log-probabilities, and how many alternatives."""
    chosen: TokenScores | None
    """Of the tokens in the asking rows."""
    scores: list[TokenScores]
    """Of the prompts that are scored, in order."""
    sums: list[Tensor]
    """float32 [H]: of the prompts that are pooled, in order."""

    @property
    def tensors(self) -> list[Tensor]:
        """All of them, in the order that `to_output` takes them."""
        scores = [*([self.chosen] if self.chosen else []), *self.scores]
        return [self.token_ids, *(t for score in scores for t in score), *self.sums]

    def to_output(self, tensors: Iterable[Tensor]) -> StepOutput:
        """Lay out `tensors`, by now on the host."""
        rest = iter(tensors)
        token_ids = next(rest).tolist()
        logprobs: list[Logprobs | None] = []
        if self.chosen is not None:
            read = _take_scores(rest).as_logprobs(list(self.asking.values()))
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
    """`scores` and `sums` of OutputTensors.

    Args:
        hidden: last hidden states of all tokens of the sequences that are read whole, [O, H].
        reader: knows which ids may be shown.
        to_logits: the model's output layer.
    """
    scores, sums, start = [], [], 0
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
