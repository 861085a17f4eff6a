"""The runner of a rank that another rank answers for."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from glmserve.contract.adapter import AdapterRunner, AdapterSource
from glmserve.contract.step import (
    MaskSource,
    PendingOutput,
    ReleasingRunner,
    Runner,
    StepInput,
    StepOutput,
    no_masks,
)


class Acknowledging:
    """Executes steps and returns outputs without contents: they only say that a step is done."""

    def __init__(self, runner: Runner) -> None:
        self.info = runner.info
        self._runner = runner

    def execute(self, step: StepInput, masks: MaskSource = no_masks) -> StepOutput | PendingOutput:
        """See Runner."""
        output = self._runner.execute(step, masks)
        done = StepOutput(step.step_id, [])
        if isinstance(output, StepOutput):
            return done
        wait = output

        def wait_and_acknowledge() -> StepOutput:
            wait()
            return done

        return wait_and_acknowledge

    def read_adapter(self, source: AdapterSource) -> Callable[[], None]:
        """See AdapterRunner."""
        return cast(AdapterRunner, self._runner).read_adapter(source)

    def remove_adapter(self, adapter_id: int) -> None:
        """See AdapterRunner."""
        cast(AdapterRunner, self._runner).remove_adapter(adapter_id)

    def release_cache(self) -> None:
        """See ReleasingRunner."""
        cast(ReleasingRunner, self._runner).release_cache()

    def close(self) -> None:
        """See Runner."""
        self._runner.close()
