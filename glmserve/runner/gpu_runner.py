"""The Runner of devices with queued work: the host never waits for the device within a step.

Chosen tokens stay on the device, where the next step reads them, and are copied to the host at the
same time. So the host prepares and queues a step while the device still computes the one before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Generic

import numpy as np
import torch
from torch import Tensor

from glmserve.contract.adapter import AdapterSource
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
from glmserve.ops.attention.backend import Cache, Plan
from glmserve.ops.base import Ops
from glmserve.ops.batch import Batch
from glmserve.ops.inputs import upload
from glmserve.runner.accelerator import Accelerator
from glmserve.runner.adapters import Adapters, prefixes_of, required, slots_of
from glmserve.runner.batch import build_batch
from glmserve.runner.device_sampler import DeviceSampler
from glmserve.runner.graphs import StepGraphs, resolve_on_device
from glmserve.runner.inspection import Observer, inspect_model
from glmserve.runner.logprobs import LogprobReader, TokenScores
from glmserve.runner.output import OutputTensors, read_prompts
from glmserve.runner.queued_step import QueuedStep, needs_chosen, with_history


class GpuRunner(Generic[Cache, Plan]):
    """Runs one model over its paged KV cache, up to one step ahead of the outputs.

    Args:
        caches: the KV cache of each layer.
        ops: plans steps.
        graphs: recorded steps; None: all steps run kernel by kernel.
        last_tokens: int64 [sequences of the largest step], on the device: the tokens that the last
            step chose. The graphs read them.
        logits: float32 [sequences of the largest step, V], overwritten by each step. The graphs
            write them.
        adapters: None: the runner has none.
    """

    def __init__(
        self,
        *,
        model: Model[Cache, Plan],
        caches: list[Cache],
        ops: Ops[Cache, Plan],
        sampler: DeviceSampler,
        logprob_reader: LogprobReader,
        accelerator: Accelerator,
        graphs: StepGraphs[Cache, Plan] | None,
        last_tokens: Tensor,
        logits: Tensor,
        info: RunnerInfo,
        adapters: Adapters | None = None,
    ) -> None:
        self.info = info
        self._adapters = adapters
        self._model: Model[Cache, Plan] | None = model
        self._caches = caches
        self._ops = ops
        self._uploads = ops.attention.uploads
        self._sampler = sampler
        self._logprob_reader = logprob_reader
        self._accelerator = accelerator
        self._graphs = graphs
        self._last_tokens = last_tokens
        self._logits = logits
        self._last_step = QueuedStep(lambda: StepOutput(0, []), [])

    @torch.inference_mode()
    def execute(self, step: StepInput, masks: MaskSource = no_masks) -> PendingOutput:
        """Queue a step.

        Returns:
            A function that waits for the output.

        Raises:
            RuntimeError: the runner is closed.
        """
        if self._model is None:
            raise RuntimeError("the runner is closed")
        model = self._model
        self._uploads.next_step()
        slots, prefixes = slots_of(self._adapters), prefixes_of(self._adapters)
        batch = build_batch(step, self.info.limits.block_size, slots, prefixes)
        self._resolve_placeholders(batch)
        sampled = [s for s in step.sequences if s.sampling is not None]
        hidden = self._forward(model, batch, len(sampled))
        if hidden is None:  # a later stage answers
            return self._acknowledge(step)
        logits, prompts = hidden
        # Only penalties need the last tokens on the host.
        sampling = [s.sampling for s in sampled if s.sampling is not None]
        if any(map(needs_chosen, sampled)):
            chosen = self._last_step.chosen()
            sampling = [with_history(s, chosen) for s in sampled]
        asking = {i: s for i, s in enumerate(sampling) if s.top_logprobs is not None}
        token_ids, scores = self._choose(logits, sampling, asking, masks)
        prompt_scores, sums = read_prompts(step, prompts, self._logprob_reader, model.logits)
        output = OutputTensors(step, token_ids, asking, scores, prompt_scores, sums)
        wait = self._accelerator.read_back(output.tensors)
        self._last_step = QueuedStep(
            lambda: output.to_output(wait()), [s.request_id for s in sampled]
        )
        return self._last_step.output

    def _acknowledge(self, step: StepInput) -> PendingOutput:
        """A function that waits for the device, and says that the step is done."""
        wait = self._accelerator.read_back([])

        def wait_and_acknowledge() -> StepOutput:
            wait()
            return StepOutput(step.step_id, [])

        return wait_and_acknowledge

    @torch.inference_mode()
    def inspect(self, step: StepInput, observe: Observer) -> None:
        """See InspectableRunner. Operations run one by one, without graphs."""
        block_size = self.info.limits.block_size
        inspect_model(self._model, self._caches, self._ops, step, block_size, observe)

    def read_adapter(self, source: AdapterSource) -> Callable[[], None]:
        """See AdapterRunner."""
        return required(self._adapters).read(source)

    def remove_adapter(self, adapter_id: int) -> None:
        """See AdapterRunner."""
        required(self._adapters).remove(adapter_id)

    def close(self) -> None:
        """Free weights, adapters, cache, graphs and logits."""
        self._model = None
        self._adapters = None
        self._graphs = None
        self._logits = self._logits[:0].clone()
        self._caches = []

    def _resolve_placeholders(self, batch: Batch) -> None:
        """Replace placeholders by references to the last step's tokens, see resolve_on_device."""
        rows = self._last_step.rows
        for row, request_id in batch.placeholders:
            batch.input_ids[row] = -1 - rows[request_id]

    def _forward(
        self, model: Model[Cache, Plan], batch: Batch, num_sampled: int
    ) -> tuple[Tensor, Tensor] | None:
        """Logits of the sampled rows [S, V], and last hidden states [n, H] of scored or pooled
        prompts; None: a later stage has them."""
        if self._graphs is not None:
            shape = self._graphs.shape_for(batch, num_sampled)
            if shape is not None:
                return self._graphs.run(shape, batch), self._last_tokens[:0]
        inputs = upload(batch, self._ops, self._caches[0])
        if batch.placeholders:
            input_ids = resolve_on_device(inputs.input_ids, self._last_tokens)
            inputs = replace(inputs, input_ids=input_ids)
        hidden = model.forward(inputs, self._caches)
        if hidden is None:
            return None
        logits = model.logits(hidden[:num_sampled], out=self._logits[:num_sampled])
        return logits, hidden[num_sampled:]

    def _choose(
        self,
        logits: Tensor,
        sampling: Sequence[SamplingInput],
        asking: dict[int, SamplingInput],
        masks: MaskSource,
    ) -> tuple[Tensor, TokenScores | None]:
        """Choose a token for each row of `logits` [S, V].

        Args:
            asking: the rows with log-probabilities, and their inputs.

        Returns:
            int64 [S], also stored in `_last_tokens`; and the log-probabilities of the `asking`
            rows.
        """
        if not sampling:
            return self._last_tokens[:0], None
        rows = self._uploads.send(np.array(list(asking))) if asking else None
        log_probs = None if rows is None else torch.log_softmax(logits[rows], dim=-1)
        given = masks() if any(s.constrained for s in sampling) else []
        token_ids = self._sampler.sample(logits, sampling, given)
        self._last_tokens[: len(token_ids)] = token_ids
        if log_probs is None:
            return token_ids, None
        return token_ids, self._logprob_reader.read_chosen(
            log_probs, token_ids[rows], list(asking.values())
        )
