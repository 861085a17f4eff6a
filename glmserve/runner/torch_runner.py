"""The Runner of devices on which torch computes eagerly.

It waits for each step. The next one may be planned shortly before a step ends, so that it begins at
once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

import msgspec
import torch
from torch import Tensor

from glmserve.config import Quantization, ReportProgress, RunnerConfig
from glmserve.contract.adapter import AdapterSource
from glmserve.contract.step import (
    MaskSource,
    RunnerInfo,
    RunnerLimits,
    StepInput,
    StepOutput,
    no_masks,
)
from glmserve.model_config import ModelConfig
from glmserve.model_config.sharding import WHOLE_MODEL, Part, local_config
from glmserve.models.adapter_check import check_adapters
from glmserve.models.dummy import dummy_weights
from glmserve.models.packing import pack_parameters
from glmserve.models.parameters import Parameters, count_parameters, weight_bytes
from glmserve.models.prefix import load_prefix
from glmserve.models.registry import Model, build_model
from glmserve.models.segment_counts import check_segments
from glmserve.models.weights import load_weights
from glmserve.ops.attention.backend import Cache, Plan, PrefixBackend, ReleasingBackend
from glmserve.ops.base import AnyOps, Ops
from glmserve.ops.collectives import ALONE, Collectives
from glmserve.ops.inputs import Inputs, upload
from glmserve.runner.adapters import (
    Adapters,
    make_adapters,
    prefixes_of,
    required,
    room_of,
    slots_of,
)
from glmserve.runner.answers import StepAnswers, is_greedy
from glmserve.runner.batch import build_batch
from glmserve.runner.dtypes import dtype_name
from glmserve.runner.inspection import Observer, inspect_model
from glmserve.runner.queued_step import LastTokens

Forward = Callable[[Inputs[Plan], Sequence[Cache]], Tensor | None]
"""See Model.forward."""
Greedy = Callable[[Tensor], list[int]]
"""The most likely token after each of the last hidden states [O, H], see MostLikelyTokens."""


@dataclass(frozen=True)
class TorchTarget:
    """Where and how a device computes a model."""

    device: torch.device
    description: str
    dtype: torch.dtype
    ops: AnyOps
    quantization: Quantization | None
    """What plain linear weights are quantised to before `ops` packs them; None: nothing."""
    collectives: Collectives = ALONE
    """The ranks that compute the model together."""
    part: Part = WHOLE_MODEL
    """This rank's part of the model."""
    ordered: bool = False
    """Sums over ranks have one order, whatever the number of ranks."""
    forward_of: Callable[[Any], Forward[Any, Any] | None] = lambda model: None
    """Another way to compute a model's `forward`; None: there is none for this model."""
    greedy_of: Callable[[Any, int | None, Sequence[int]], Greedy | None] = (
        lambda model, vocab_limit, never_sampled: None
    )
    """Another way to choose a model's tokens in greedy steps, see MostLikelyTokens.of; None: there
    is none for this model."""


class TorchRunner(Generic[Cache, Plan]):
    """Runs one model over its paged KV cache.

    Args:
        caches: the KV cache of each layer.
        vocab_limit: ids from here on are never chosen; None: no limit.
        never_sampled: int64 [n], further ids that are never chosen.
        adapters: None: the runner has none.
        forward: another way to compute `model.forward`; None: there is none.
        greedy: chooses the tokens of greedy steps; None: the logits of all steps are computed.
    """

    def __init__(
        self,
        model: Model[Cache, Plan],
        caches: list[Cache],
        ops: Ops[Cache, Plan],
        vocab_limit: int | None,
        never_sampled: Tensor,
        info: RunnerInfo,
        adapters: Adapters | None = None,
        forward: Forward[Plan, Cache] | None = None,
        greedy: Greedy | None = None,
    ) -> None:
        self.info = info
        self._adapters = adapters
        self._model: Model[Cache, Plan] | None = model
        self._forward = forward or model.forward
        self._greedy = greedy
        self._caches = caches
        self._ops = ops
        self._answers = StepAnswers(ops, vocab_limit, never_sampled)
        self._last_tokens = LastTokens()

    @torch.inference_mode()
    def execute(self, step: StepInput, masks: MaskSource = no_masks) -> StepOutput:
        """See Runner.

        Raises:
            RuntimeError: the runner is closed.
        """
        if self._model is None:
            raise RuntimeError("the runner is closed")
        model, block_size = self._model, self.info.limits.block_size
        step = self._last_tokens.resolve(step)
        slots, prefixes = slots_of(self._adapters), prefixes_of(self._adapters)
        batch = build_batch(step, block_size, slots, prefixes)
        inputs = upload(batch, self._ops, self._caches[0])
        hidden = self._forward(inputs, self._caches)  # [O, H]
        if hidden is None:
            return StepOutput(step.step_id, [])  # a later stage answers
        output = self._answer(step, hidden, model, masks)
        self._last_tokens.record(step, output)
        return output

    def _answer(
        self, step: StepInput, hidden: Tensor, model: Model[Cache, Plan], masks: MaskSource
    ) -> StepOutput:
        """What the last hidden states [O, H] give."""
        if self._greedy is not None and is_greedy(step):
            return StepOutput(step.step_id, self._greedy(hidden))
        num_sampled = sum(len(sequence.sampling_inputs) for sequence in step.sequences)
        logits = model.logits(hidden[:num_sampled]) if num_sampled else None
        return self._answers.answer(step, logits, hidden[num_sampled:], model.logits, masks)

    @torch.inference_mode()
    def inspect(self, step: StepInput, observe: Observer) -> None:
        """See InspectableRunner."""
        block_size = self.info.limits.block_size
        inspect_model(self._model, self._caches, self._ops, step, block_size, observe)

    def read_adapter(self, source: AdapterSource) -> Callable[[], None]:
        """See AdapterRunner."""
        return required(self._adapters).read(source)

    def remove_adapter(self, adapter_id: int) -> None:
        """See AdapterRunner."""
        required(self._adapters).remove(adapter_id)

    def release_cache(self) -> None:
        """See ReleasingRunner."""
        backend = self._ops.attention
        assert isinstance(backend, ReleasingBackend)  # the limits say so
        backend.release(self._caches)

    def close(self) -> None:
        """Free weights and cache."""
        self._model = None
        self._greedy = None
        del self._forward
        self._adapters = None
        self._caches = []


def load_torch_runner(
    config: RunnerConfig,
    model_config: ModelConfig,
    target: TorchTarget,
    limits: RunnerLimits,
    progress: ReportProgress,
) -> TorchRunner[Any, Any]:
    """Load or generate the weights, build the model, allocate the KV cache.

    Args:
        model_config: of the whole model, also for a rank of a group.

    Raises:
        CheckpointError: the weights cannot be read or do not fit config.json, or an adapter of the
            command line does not fit.
        OptionError: the model cannot be cut into so many parts.
    """
    check_adapters(config.adapters, model_config)
    own, ops, room = local_config(model_config, target.part), target.ops, room_of(config)
    limits = msgspec.structs.replace(
        limits,
        # The first stage of a pipeline does not learn in time what the last one chooses.
        resolves_placeholders=config.pipeline_parallel_size == 1,
        waits_for_steps=True,
        max_adapters=config.max_adapters,
    )
    with torch.inference_mode():
        parameters = make_parameters(config, model_config, target, progress)
        longest = limits.max_context + config.max_prefix_length  # the greatest position
        model = build_model(own, parameters, ops, longest, target.collectives, room)
        caches = allocate_caches(model_config, target, limits.num_blocks)
    token_bytes = own.num_layers * ops.attention.token_bytes(own.head_dim)
    info = RunnerInfo(
        limits=limits,
        device=target.description,
        dtype=dtype_name(target.dtype),
        num_parameters=count_parameters(model_config),
        weight_bytes=weight_bytes(own, target.dtype.itemsize, target.quantization),
        kv_cache_bytes=limits.token_capacity * token_bytes,
        layers=target.part.ends,
    )
    never_sampled = torch.tensor(config.never_sampled, dtype=torch.int64, device=target.device)
    adapters = make_adapters(
        config, model, model_config, target.part, target.dtype, ops.attention, caches
    )
    return TorchRunner(
        *(model, caches, ops, config.vocab_limit, never_sampled, info, adapters),
        forward=target.forward_of(model),
        greedy=target.greedy_of(model, config.vocab_limit, config.never_sampled),
    )


def allocate_caches(model_config: ModelConfig, target: TorchTarget, num_blocks: int) -> list[Any]:
    """The KV cache of each layer, with the model's prefix in it if it has one.

    Args:
        model_config: of the whole model.

    Raises:
        CheckpointError: the prefix cannot be read or belongs to another model.
        TypeError: the attention backend has no slots for a prefix.
    """
    attention = target.ops.attention
    caches: list[Any] = attention.allocate(
        local_config(model_config, target.part).num_layers, num_blocks, model_config.head_dim
    )
    if model_config.prefix is not None:
        prefix = load_prefix(model_config, model_config.prefix, target.dtype, target.part)
        if not isinstance(attention, PrefixBackend):
            raise TypeError(f"{type(attention).__name__} has no slots for a prefix")
        attention.write_prefix(caches, prefix.to(target.device))
    return caches


def make_parameters(
    config: RunnerConfig, model_config: ModelConfig, target: TorchTarget, progress: ReportProgress
) -> Parameters:
    """Read this rank's part of the checkpoint's weights, or generate random ones (--load-format
    dummy).

    Args:
        model_config: of the whole model.

    Raises:
        CheckpointError: the weights cannot be read or do not fit config.json.
        OptionError: the model cannot be cut into so many parts.
    """
    dtype, device, part = target.dtype, target.device, target.part
    own = local_config(model_config, part)
    if target.ordered:
        check_segments(own, target.quantization)
    if config.load_format == "auto":
        checkpoint = Path(config.checkpoint)
        stored = load_weights(model_config, checkpoint, dtype, device, progress, part)
    else:
        stored = dummy_weights(model_config, dtype, device, progress, config.seed, part)
    return pack_parameters(stored, own, target.ops, target.quantization, ordered=target.ordered)
