"""The Runner of devices whose work is queued: nothing in a step waits for the device.

Chosen tokens stay on the device for the next step to go on from; a copy of them travels to the host
meanwhile. So the host prepares and queues a step while the device still works on the one before.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Generic

import torch
from torch import Tensor

from glmserve.contract.step import (
    MaskSource,
    PendingOutput,
    RunnerInfo,
    SamplingInput,
    StepInput,
    StepOutput,
    no_masks,
)
from glmserve.models.registry import Model
from glmserve.ops.attention.backend import AttentionBackend, Cache, Plan
from glmserve.ops.batch import Batch
from glmserve.ops.inputs import Inputs, upload
from glmserve.runner.accelerator import Accelerator
from glmserve.runner.batch import build_batch
from glmserve.runner.device_sampler import DeviceSampler
from glmserve.runner.graphs import DecodeGraphs, resolve_on_device
from glmserve.runner.logprobs import LogprobReader, TokenScores
from glmserve.runner.output import OutputTensors, read_prompts
from glmserve.runner.pending import needs_chosen, with_history


class GpuRunner(Generic[Cache, Plan]):
    """Runs one model over its paged KV cache, a step ahead of its results.

    Args:
        attention: plans steps.
        graphs: recorded decode steps; None runs everything kernel by kernel.
        last_tokens: int64, at least one for every sequence of a step; the graphs read it.
    """

    def __init__(
        self,
        *,
        model: Model[Cache, Plan],
        caches: list[Cache],
        attention: AttentionBackend[Cache, Plan],
        sampler: DeviceSampler,
        logprob_reader: LogprobReader,
        accelerator: Accelerator,
        graphs: DecodeGraphs[Cache, Plan] | None,
        last_tokens: Tensor,
        info: RunnerInfo,
    ) -> None:
        self.info = info
        self._model: Model[Cache, Plan] | None = model
        self._caches = caches
        self._attention = attention
        self._sampler = sampler
        self._logprob_reader = logprob_reader
        self._accelerator = accelerator
        self._graphs = graphs
        self._last_tokens = last_tokens
        self._last_step = _QueuedStep(lambda: StepOutput(0, []), [])

    @torch.inference_mode()
    def execute(self, step: StepInput, masks: MaskSource = no_masks) -> PendingOutput:
        """Queue a step; the function returned waits for it."""
        if self._model is None:
            raise RuntimeError("the runner is closed")
        model = self._model
        batch = build_batch(step, self.info.limits.block_size)
        self._point_to_pending(batch)
        sampled = [s for s in step.sequences if s.sampling is not None]
        logits, prompts = self._forward(model, batch, len(sampled))
        # Penalties need the tokens themselves; all others are content to have them on the device.
        chosen = self._last_step.chosen() if any(map(needs_chosen, sampled)) else {}
        sampling = [with_history(s, chosen) for s in sampled]
        asking = {i: s.top_logprobs for i, s in enumerate(sampling) if s.top_logprobs is not None}
        token_ids, scores = self._choose(logits, sampling, asking, masks)
        prompt_scores, sums = read_prompts(step, prompts, self._logprob_reader, model.logits)
        output = OutputTensors(step, token_ids, asking, scores, prompt_scores, sums)
        wait = self._accelerator.read_back(output.tensors)
        self._last_step = _QueuedStep(
            lambda: output.to_output(wait()), [s.request_id for s in sampled]
        )
        return self._last_step.output

    def close(self) -> None:
        """Drop weights, cache and graphs."""
        self._model = None
        self._graphs = None
        self._caches = []

    def _point_to_pending(self, batch: Batch) -> None:
        """Say where in the last step's tokens a pending one is, as resolve_on_device reads it."""
        rows = self._last_step.rows
        for row, request_id in batch.placeholders:
            batch.input_ids[row] = -1 - rows[request_id]

    def _forward(
        self, model: Model[Cache, Plan], batch: Batch, num_sampled: int
    ) -> tuple[Tensor, Tensor]:
        """Logits of the sampled rows [S, V], and last hidden states of prompts that are read."""
        if self._graphs is not None and num_sampled and self._graphs.fits(batch, num_sampled):
            return self._graphs.run(batch), self._last_tokens[:0]
        inputs = upload(batch, self._attention, self._caches[0])
        input_ids = inputs.input_ids
        if batch.placeholders:
            input_ids = resolve_on_device(input_ids, self._last_tokens)
        hidden = model.forward(
            Inputs(input_ids, inputs.positions, inputs.output_rows, inputs.attention), self._caches
        )
        return model.logits(hidden[:num_sampled]), hidden[num_sampled:]

    def _choose(
        self,
        logits: Tensor,
        sampling: Sequence[SamplingInput],
        asking: dict[int, int],
        masks: MaskSource,
    ) -> tuple[Tensor, TokenScores | None]:
        """A token for each row of [S, V], kept for the next step; scores of the rows that ask."""
        if not sampling:
            return self._last_tokens[:0], None
        rows = torch.tensor(list(asking)).to(logits.device, non_blocking=True) if asking else None
        log_probs = None if rows is None else torch.log_softmax(logits[rows], dim=-1)
        given = masks() if any(s.constrained for s in sampling) else []
        token_ids = self._sampler.sample(logits, sampling, given)
        self._last_tokens[: len(token_ids)] = token_ids
        if log_probs is None:
            return token_ids, None
        return token_ids, self._logprob_reader.read(
            log_probs, token_ids[rows], max(asking.values())
        )


class _QueuedStep:
    """The last step that was queued, whose output two threads may wait for."""

    def __init__(self, wait: Callable[[], StepOutput], request_ids: Sequence[int]) -> None:
        self.rows = {request_id: row for row, request_id in enumerate(request_ids)}
        """Where each sampled request's token is."""
        self._wait = wait
        self._output: StepOutput | None = None
        self._lock = threading.Lock()

    def output(self) -> StepOutput:
        with self._lock:
            if self._output is None:
                self._output = self._wait()
            return self._output

    def chosen(self) -> dict[int, int]:
        """The tokens by request id; waits for the step."""
        return dict(zip(self.rows, self.output().token_ids, strict=True))
