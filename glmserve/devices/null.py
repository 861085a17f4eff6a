"""A device without a model, which answers at once: to measure and test the rest of the server.

It is also the smallest complete device plugin.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from glmserve.adapters import digest
from glmserve.config import ReportProgress, RunnerConfig
from glmserve.contract.adapter import NO_ADAPTER, AdapterSource
from glmserve.contract.step import (
    PLACEHOLDER_TOKEN_ID,
    Logprobs,
    MaskSource,
    RunnerInfo,
    RunnerLimits,
    SamplingInput,
    ScheduledSequence,
    StepInput,
    StepOutput,
    no_masks,
)
from glmserve.devices.base import DeviceInfo
from glmserve.errors import AdapterError, OptionError
from glmserve.model_config import read_model_config

_BLOCK_SIZE = 16
_STEP_TOKENS = 2048
_DEFAULT_TOKENS = 2**20
_MAX_DRAFTS = 1024


class NullDevice:
    """Always available."""

    name = "null"
    serves_adapters = True

    def probe(self) -> DeviceInfo:
        return DeviceInfo(True, "needs nothing")

    def create_runner(self, config: RunnerConfig, progress: ReportProgress) -> NullRunner:
        return NullRunner(config)


class NullRunner:
    """Chooses each token by a function of the previous token, the position and the adapter's
    content."""

    def __init__(self, config: RunnerConfig) -> None:
        model = read_model_config(
            Path(config.checkpoint), config.rope_scaling, config.ptuning_checkpoint
        )
        self._vocab_size = config.vocab_limit or model.vocab_size
        tokens = config.kv_cache_tokens or _DEFAULT_TOKENS
        if (config.max_model_len or 0) > min(tokens, model.max_context):
            raise OptionError(
                f"--max-model-len {config.max_model_len} is more than model or cache allow"
            )
        block_size = config.block_size or _BLOCK_SIZE
        num_blocks = max(1, tokens // block_size)
        limits = RunnerLimits(
            num_blocks=num_blocks,
            block_size=block_size,
            max_sequences=config.batch_size,
            max_step_tokens=config.max_step_tokens or _STEP_TOKENS,
            max_context=min(config.max_model_len or model.max_context, num_blocks * block_size),
            resolves_placeholders=True,
            max_drafts=_MAX_DRAFTS,
            max_adapters=config.max_adapters,
        )
        self._adapters = {NO_ADAPTER: 0}  # by id: a number for the content
        self._chosen: dict[int, int] = {}  # by request id, in the last step
        self.info = RunnerInfo(limits, "null (no model)", "none", 0, 0, 0)

    def execute(self, step: StepInput, masks: MaskSource = no_masks) -> StepOutput:
        token_ids = [token for s in step.sequences for token in self._next_tokens(s)]
        sampling = [inputs for s in step.sequences for inputs in s.sampling_inputs]
        constrained = [i for i, s in enumerate(sampling) if s.constrained]
        if constrained:
            for i, mask in zip(constrained, masks(), strict=True):
                token_ids[i] = _first_allowed(mask, token_ids[i])
        owners = [s.request_id for s in step.sequences for _ in s.sampling_inputs]
        self._chosen = dict(zip(owners, token_ids, strict=True))
        return StepOutput(
            step.step_id,
            token_ids,
            _reports(token_ids, sampling),
            [[_certain(t, 1) for t in s.score.targets] for s in step.sequences if s.score],
            [bytes(4) for s in step.sequences if s.pool],
        )

    def read_adapter(self, source: AdapterSource) -> Callable[[], None]:
        """See AdapterRunner. Any adapter fits."""
        content = digest(Path(source.folder))
        if content != source.digest:
            raise AdapterError(f"{source.folder}: has changed since it was named; load it anew")
        return partial(self._adapters.__setitem__, source.id, int(content[:8], 16))

    def remove_adapter(self, adapter_id: int) -> None:
        """See AdapterRunner."""
        del self._adapters[adapter_id]

    def close(self) -> None:
        """Nothing to free."""

    def _next_tokens(self, sequence: ScheduledSequence) -> list[int]:
        """The token for each SamplingInput of the sequence."""
        first = len(sequence.token_ids) - len(sequence.sampling_inputs)
        adapter = self._adapters[sequence.adapter_id]
        return [
            self._next_token(sequence.request_id, token, sequence.start + first + i + 1 + adapter)
            for i, token in enumerate(sequence.token_ids[first:])
        ]

    def _next_token(self, request_id: int, last: int, position: int) -> int:
        if last == PLACEHOLDER_TOKEN_ID:
            last = self._chosen[request_id]
        return (last * 31 + position * 7 + 11) % self._vocab_size


def _first_allowed(mask: bytes, token_id: int) -> int:
    """`token_id` if the mask allows it, else the lowest allowed id."""
    bits = int.from_bytes(mask, "little")
    if not bits or bits >> token_id & 1:
        return token_id
    return (bits & -bits).bit_length() - 1


def _reports(token_ids: list[int], sampling: list[SamplingInput]) -> list[Logprobs | None]:
    """Log-probabilities, see StepOutput."""
    if all(s.top_logprobs is None for s in sampling):
        return []
    pairs = zip(token_ids, sampling, strict=True)
    return [
        None if s.top_logprobs is None else _certain(t, s.top_logprobs, s.logprob_token_ids)
        for t, s in pairs
    ]


def _certain(token_id: int, count: int, given_ids: tuple[int, ...] = ()) -> Logprobs:
    """Log-probability 0: every token has probability 1."""
    ids = [*[token_id][:count], *given_ids]
    return Logprobs(0.0, ids, [0.0] * len(ids))
