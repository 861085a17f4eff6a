"""A runner that says a text as far as its constraint allows."""

from __future__ import annotations

from collections.abc import Callable

from glmserve.contract.step import RunnerLimits, StepInput, StepOutput
from support.fakes import FakeRunner, nearest_allowed

ROOMY = RunnerLimits(
    num_blocks=512, block_size=4, max_sequences=16, max_step_tokens=512, max_context=1024
)


class Speaker(FakeRunner):
    """Says a given text and then the end, or what comes nearest to it among what is allowed."""

    def __init__(self, text: str) -> None:
        super().__init__(ROOMY)
        self._script = [*text.encode(), 256]
        self._said: dict[int, int] = {}

    def execute(self, step: StepInput, masks: Callable[[], list[bytes]] = list) -> StepOutput:
        sampled = [s for s in step.sequences if s.sampling is not None]
        needs_masks = any(s.sampling and s.sampling.constrained for s in sampled)
        given = masks() if needs_masks else []
        output = super().execute(step, lambda: given)
        left = iter(given)
        ids = []
        for sequence in sampled:
            said = self._said.get(sequence.request_id, 0) if sequence.start else 0
            self._said[sequence.request_id] = said + 1
            token = self._script[min(said, len(self._script) - 1)]
            constrained = sequence.sampling is not None and sequence.sampling.constrained
            ids.append(nearest_allowed(token, next(left)) if constrained else token)
        return StepOutput(step.step_id, ids, output.logprobs, output.scores, output.pooled)
