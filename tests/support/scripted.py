"""A runner that says what it is told."""

from __future__ import annotations

import msgspec

from glmserve.contract.step import MaskSource, RunnerLimits, StepInput, StepOutput, no_masks
from support.fakes import FakeRunner

EOS = 256
"""ByteTokenizer's."""

ROOMY = RunnerLimits(
    num_blocks=512,
    block_size=4,
    max_sequences=16,
    max_step_tokens=64,
    max_context=1024,
    resolves_placeholders=True,
)


class ScriptedRunner(FakeRunner):
    """Gives the first request the first text, and so on; further ones get the last.

    The step by which an engine becomes ready does not count.
    """

    def __init__(self, *texts: str, limits: RunnerLimits = ROOMY) -> None:
        super().__init__(limits)
        self._texts = [text.encode() for text in texts]
        self._rest: dict[int, list[int]] = {}

    def execute(self, step: StepInput, masks: MaskSource = no_masks) -> StepOutput:
        is_first = not self.steps
        output = super().execute(step, masks)
        if is_first:
            return output
        sampled = [s.request_id for s in step.sequences if s.sampling is not None]
        return msgspec.structs.replace(output, token_ids=[self._next(i) for i in sampled])

    def _next(self, request_id: int) -> int:
        if request_id not in self._rest:
            text = self._texts.pop(0) if len(self._texts) > 1 else self._texts[0]
            self._rest[request_id] = [*text]
        rest = self._rest[request_id]
        return rest.pop(0) if rest else EOS
