"""What a step answers, from its logits and hidden states: tokens, log-probabilities, scores, sums.

For runners that wait for each step and choose tokens on the host.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from glmserve.contract.step import MaskSource, SamplingInput, StepInput, StepOutput
from glmserve.ops.base import AnyOps
from glmserve.runner.logprobs import LogprobReader
from glmserve.runner.output import OutputTensors, read_prompts
from glmserve.runner.sampler import sample
from glmserve.runner.token_masks import apply_token_masks


class StepAnswers:
    """Makes the output of steps of one model.

    Args:
        ops: computes the argmax and the draw.
        vocab_limit: ids from here on are never chosen; None: no limit.
        never_sampled: int64 [n], further ids that are never chosen.
    """

    def __init__(self, ops: AnyOps, vocab_limit: int | None, never_sampled: Tensor) -> None:
        self._ops = ops
        self._vocab_limit = vocab_limit
        self._never_sampled = never_sampled
        self._logprob_reader = LogprobReader(ops.attention.uploads, vocab_limit, never_sampled)

    def answer(
        self,
        step: StepInput,
        logits: Tensor | None,
        prompts: Tensor,
        to_logits: Callable[[Tensor], Tensor],
        masks: MaskSource,
    ) -> StepOutput:
        """Choose the tokens of a step, and report what it asks for.

        Args:
            logits: float32 [S, V], a row for each sampling input in order; overwritten. None: the
                step samples nothing.
            prompts: [R, H], last hidden states of all tokens of the sequences that are scored or
                pooled, in order.
            to_logits: the model's output layer, [m, H] to float32 [m, V].
            masks: see Runner.
        """
        sampling = [s for sequence in step.sequences for s in sequence.sampling_inputs]
        asking = {i: s for i, s in enumerate(sampling) if s.top_logprobs is not None}
        if not asking and len(prompts) == 0:
            return StepOutput(step.step_id, self._choose(logits, sampling, masks))
        log_probs = None
        if logits is not None and asking:
            log_probs = torch.log_softmax(logits[list(asking)], dim=-1)
        token_ids = torch.tensor(self._choose(logits, sampling, masks), dtype=torch.int64)
        chosen = None
        if log_probs is not None:
            ids = token_ids[list(asking)].to(log_probs.device)
            chosen = self._logprob_reader.read_chosen(log_probs, ids, list(asking.values()))
        scores, sums = read_prompts(step, prompts, self._logprob_reader, to_logits)
        output = OutputTensors(step, token_ids, asking, chosen, scores, sums)
        return output.to_output(tensor.cpu() for tensor in output.tensors)

    def _choose(
        self, logits: Tensor | None, sampling: list[SamplingInput], masks: MaskSource
    ) -> list[int]:
        """Choose a token for each row of [S, V]; None has no rows."""
        if logits is None:
            return []
        if len(self._never_sampled):
            logits.index_fill_(1, self._never_sampled, float("-inf"))
        apply_token_masks(logits, sampling, masks)
        return sample(logits, sampling, self._ops, self._vocab_limit)


def is_greedy(step: StepInput) -> bool:
    """Whether a step asks for nothing but the most likely tokens."""
    return all(
        not sequence.is_read_whole
        and all(s.takes_most_likely and s.top_logprobs is None for s in sequence.sampling_inputs)
        for sequence in step.sequences
    )
