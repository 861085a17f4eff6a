"""The Runner of a compiled folder: graphs compute logits, and the host chooses tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from glmserve.config import RunnerConfig
from glmserve.contract.step import (
    MaskSource,
    PendingOutput,
    RunnerInfo,
    StepInput,
    StepOutput,
    no_masks,
)
from glmserve.graphs.lanes import LaneModel
from glmserve.graphs.step_result import StepResult
from glmserve.ops.base import AnyOps
from glmserve.runner.answers import StepAnswers
from glmserve.runner.inspection import Observer
from glmserve.runner.queued_step import LastTokens


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

    A step may be planned while the one before it runs, so it can begin at once when that ends.

    Args:
        ops: its argmax and draw choose tokens.
    """

    def __init__(
        self, model: GraphModel, ops: AnyOps, config: RunnerConfig, info: RunnerInfo
    ) -> None:
        self.info = info
        self._model: GraphModel | None = model
        never_sampled = torch.tensor(config.never_sampled, dtype=torch.int64)
        self._last_tokens = LastTokens()
        self._answers = StepAnswers(ops, config.vocab_limit, never_sampled)

    @torch.inference_mode()
    def execute(self, step: StepInput, masks: MaskSource = no_masks) -> StepOutput | PendingOutput:
        """See Runner.

        Raises:
            RuntimeError: the runner is closed.
        """
        if self._model is None:
            raise RuntimeError("the runner is closed")
        model = self._model
        step = self._last_tokens.resolve(step)
        result = model.run(step)
        output = self._answers.answer(step, result.logits, result.hidden, model.logits, masks)
        self._last_tokens.record(step, output)
        return output

    def close(self) -> None:
        """Free graphs and cache."""
        self._model = None


class PipelinedGraphRunner(GraphRunner):
    """Runs graphs whose parts are on several devices, with a step in each of them.

    Args:
        model: begins steps without waiting for them.
        others: see GraphRunner.
    """

    def __init__(
        self, model: LaneModel, ops: AnyOps, config: RunnerConfig, info: RunnerInfo
    ) -> None:
        super().__init__(model, ops, config, info)
        self._parts: LaneModel | None = model

    def execute(self, step: StepInput, masks: MaskSource = no_masks) -> PendingOutput:
        """Begin a step.

        Returns:
            A function that waits for its output. Such functions are called in the order of steps.

        Raises:
            RuntimeError: the runner is closed.
        """
        if self._parts is None:
            raise RuntimeError("the runner is closed")
        result = self._parts.begin(step)
        constrained = any(i.constrained for s in step.sequences for i in s.sampling_inputs)
        # Only this thread may wait for masks.
        given = masks() if constrained else []
        return partial(self._finish, self._parts, step, result, given)

    @torch.inference_mode()
    def _finish(
        self,
        model: LaneModel,
        step: StepInput,
        wait: Callable[[], StepResult],
        masks: Sequence[bytes],
    ) -> StepOutput:
        result = wait()
        return self._answers.answer(
            step, result.logits, result.hidden, model.logits, lambda: list(masks)
        )

    def close(self) -> None:
        """Wait for steps, and free graphs and caches."""
        super().close()
        if self._parts is not None:
            self._parts.close()
            self._parts = None


class InspectableGraphRunner(GraphRunner):
    """A GraphRunner whose folder has an inspection graph; see InspectableRunner.

    Args:
        inspect: runs that graph.
        others: see GraphRunner.
    """

    def __init__(
        self,
        model: GraphModel,
        ops: AnyOps,
        config: RunnerConfig,
        info: RunnerInfo,
        inspect: Callable[[StepInput, Observer], None],
    ) -> None:
        super().__init__(model, ops, config, info)
        self._inspect = inspect

    def inspect(self, step: StepInput, observe: Observer) -> None:
        """See InspectableRunner."""
        self._inspect(step, observe)


def lane_runner(
    model: LaneModel, ops: AnyOps, config: RunnerConfig, info: RunnerInfo
) -> GraphRunner:
    """The runner of static graphs."""
    if info.limits.steps_in_flight > 1:
        return PipelinedGraphRunner(model, ops, config, info)
    if model.inspector is None:
        return GraphRunner(model, ops, config, info)
    return InspectableGraphRunner(model, ops, config, info, model.inspector.inspect)
