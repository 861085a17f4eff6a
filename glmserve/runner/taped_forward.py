"""Forward passes on a CPU whose kernels are called from a tape instead of from Python."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from glmserve.models.glm import Glm
from glmserve.models.stream import Stream
from glmserve.ops.attention.native_cpu import NativeCpuAttention
from glmserve.ops.cpu.native_ops import NativeCpuOps
from glmserve.ops.inputs import Inputs
from glmserve_cpu_kernels.attention import KvCache, Step
from glmserve_cpu_kernels.library import Library
from glmserve_cpu_kernels.tape import NotRecordableError, Tape, recording

_MOST_ROWS = 64
"""Steps of more tokens take so long that Python's part does not count."""


class TapedForward:
    """The forward pass of a model in one process, see Model.

    The first step of each number of tokens is recorded, and later ones are replayed: the same
    kernels with the same arguments, so the same bits. A step whose rows have adapters, or are not
    all output rows, is computed from Python, and so is each step of a model that needs more than
    the recordable kernels.

    Args:
        model: its operations are NativeCpuOps, and it has no ranks.
        library: the kernels of these operations.
    """

    def __init__(self, model: Glm[KvCache, Step], library: Library) -> None:
        self._model = model
        self._library = library
        self._tapes: dict[int, _TapedStep] = {}
        self._arena = torch.empty(0, dtype=torch.uint8)
        self._is_recordable = True

    @classmethod
    def of(cls, model: Any) -> TapedForward | None:
        """None: the model cannot be recorded, because other operations compute it."""
        if not isinstance(model, Glm) or not isinstance(model.ops, NativeCpuOps):
            return None
        stage = model.config.stage
        is_alone = model.collectives.shard.size == 1 and stage.is_first and stage.is_last
        if not is_alone or not isinstance(model.ops.attention, NativeCpuAttention):
            return None
        return cls(model, model.ops.library)

    def __call__(self, inputs: Inputs[Step], caches: Sequence[KvCache]) -> Tensor | None:
        """See Model.forward."""
        rows = len(inputs.input_ids)
        outputs = rows if inputs.output_rows is None else len(inputs.output_rows)
        if not self._is_recordable or rows > _MOST_ROWS or outputs != rows or inputs.adapters:
            return self._model.forward(inputs, caches)
        taped = self._tapes.get(rows)
        try:
            hidden = (
                self._record(rows, inputs, caches)
                if taped is None
                else taped.compute(*self._model.begin(inputs), inputs.attention)
            )
        except NotRecordableError:
            self._is_recordable = False
            return self._model.forward(inputs, caches)
        wanted = inputs.output_rows
        return hidden if wanted is None else hidden.index_select(0, wanted)

    def _record(self, rows: int, inputs: Inputs[Step], caches: Sequence[KvCache]) -> Tensor:
        """Compute a step, and keep its calls."""
        stream, rope_rows = self._model.begin(inputs)
        every_row = replace(inputs, output_rows=None)
        with recording(self._library) as found:
            hidden = self._model.run(stream, rope_rows, every_row, caches)
        assert hidden is not None, "a model in one process"
        tape = Tape(self._library, found, hidden)
        self._make_room(tape.num_bytes * -(-_MOST_ROWS // rows))
        result = tape.use(self._arena)
        self._tapes[rows] = _TapedStep(stream.hidden, rope_rows, inputs.attention, tape, result)
        return hidden

    def _make_room(self, num_bytes: int) -> None:
        """All tapes share one arena, because one step is computed at a time."""
        if num_bytes > len(self._arena):
            self._tapes.clear()
            self._arena = torch.empty(num_bytes, dtype=torch.uint8)


class _TapedStep(NamedTuple):
    """The calls of steps of one number of tokens, and the memory that they read."""

    hidden: Tensor
    """The stream before the first layer; overwritten."""
    rope_rows: Tensor
    plan: Step
    tape: Tape
    result: Tensor
    """What the calls leave, until the next step."""

    def compute(self, stream: Stream, rope_rows: Tensor, plan: Step) -> Tensor:
        self.hidden.copy_(stream.hidden)
        self.rope_rows.copy_(rope_rows)
        self.plan.take(plan)
        self.tape.replay()
        return self.result
