"""A device without a model: answers at once, for measuring and testing everything else.

It is also the smallest complete device plugin.
"""

from __future__ import annotations

from pathlib import Path

from glmserve.config import LoadProgress, RunnerConfig
from glmserve.devices.base import DeviceInfo
from glmserve.errors import OptionError
from glmserve.model_config import read_model_config
from glmserve.step import RunnerInfo, RunnerLimits, ScheduledSequence, StepInput, StepOutput

_DEFAULT_TOKENS = 2**20


class NullDevice:
    """Always there."""

    name = "null"

    def probe(self) -> DeviceInfo:
        return DeviceInfo(True, "needs nothing")

    def create_runner(self, config: RunnerConfig, progress: LoadProgress) -> NullRunner:
        return NullRunner(config)


class NullRunner:
    """Answers every token with one that follows from the last token and its position."""

    def __init__(self, config: RunnerConfig) -> None:
        model = read_model_config(Path(config.checkpoint), config.rope_scaling)
        self._vocab_size = config.vocab_limit or model.vocab_size
        tokens = config.kv_cache_tokens or _DEFAULT_TOKENS
        if (config.max_model_len or 0) > min(tokens, model.max_context):
            raise OptionError(
                f"--max-model-len {config.max_model_len} is more than model or cache allow"
            )
        limits = RunnerLimits(
            num_blocks=max(1, tokens // config.block_size),
            block_size=config.block_size,
            max_sequences=config.max_batch_size,
            max_step_tokens=config.max_step_tokens,
            max_context=min(config.max_model_len or model.max_context, tokens),
        )
        self.info = RunnerInfo(limits, "null (no model)", "none", 0, 0, 0)

    def execute(self, step: StepInput) -> StepOutput:
        sampled = [self._next_token(s) for s in step.sequences if s.sampling is not None]
        return StepOutput(step.step_id, sampled)

    def close(self) -> None:
        """Nothing to free."""

    def _next_token(self, sequence: ScheduledSequence) -> int:
        position = sequence.start + len(sequence.token_ids)
        return (sequence.token_ids[-1] * 31 + position * 7 + 11) % self._vocab_size
