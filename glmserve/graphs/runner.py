"""The Runner of a compiled folder: graphs compute logits, and the host chooses tokens."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from glmserve.config import RunnerConfig
from glmserve.contract.step import MaskSource, RunnerInfo, StepInput, StepOutput, no_masks
from glmserve.graphs.step_result import StepResult
from glmserve.ops.base import AnyOps
from glmserve.runner.answers import StepAnswers


class GraphModel(Protocol):
    """A model as graphs, with its KV cache."""

    def run(self, step: StepInput) -> StepResult:
        """Write K/V of all tokens to the cache, and compute what the step asks for."""
        ...

    def logits(self, hidden: Tensor) -> Tensor:
        """The output layer: [n, H] to float32 [n, V]."""
        ...


class GraphRunner:
    """Runs one model's graphs.

    Args:
        ops: its argmax and draw choose tokens.
    """

    def __init__(
        self, model: GraphModel, ops: AnyOps, config: RunnerConfig, info: RunnerInfo
    ) -> None:
        self.info = info
        self._model: GraphModel | None = model
        never_sampled = torch.tensor(config.never_sampled, dtype=torch.int64)
        self._answers = StepAnswers(ops, config.vocab_limit, never_sampled)

    @torch.inference_mode()
    def execute(self, step: StepInput, masks: MaskSource = no_masks) -> StepOutput:
        """See Runner.

        Raises:
            RuntimeError: the runner is closed.
        """
        if self._model is None:
            raise RuntimeError("the runner is closed")
        model = self._model
        result = model.run(step)
        return self._answers.answer(step, result.logits, result.hidden, model.logits, masks)

    def close(self) -> None:
        """Free graphs and cache."""
        self._model = None
