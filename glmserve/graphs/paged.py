"""Executes steps with one dynamic graph over a paged cache, by OpenVINO's paged attention.

A step may hold any mix of prefill chunks and decodes, as on other devices.
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import numpy as np
import openvino
import torch
from openvino._offline_transformations import paged_attention_transformation
from torch import Tensor

from glmserve.contract.step import StepInput
from glmserve.errors import DeviceError
from glmserve.graphs import names
from glmserve.graphs.openvino_paged import output_layer
from glmserve.graphs.openvino_precision import check_precision
from glmserve.graphs.paged_step import PagedStep
from glmserve.graphs.step_result import StepResult
from glmserve.graphs.watched_tensors import watched_tensors
from glmserve.model_config import ModelConfig
from glmserve.runner.batch import build_batch
from glmserve.runner.inspection import Observer
from glmserve.runner.tensor_names import LOGITS

_CACHES = ("key_cache", "value_cache")


class PagedModel:
    """A model whose paged graph is in a compiled folder.

    Args:
        core: of OpenVINO.
        device: OpenVINO's name of the device.
        properties: of the compiled model.
    """

    def __init__(
        self,
        core: openvino.Core,
        folder: Path,
        model: ModelConfig,
        device: str,
        properties: dict[str, object],
    ) -> None:
        self._load = partial(_load, core, folder, device, properties)
        self._tensors = watched_tensors(model)
        self._names = [f"{kind}.{i}" for i in range(model.num_layers) for kind in _CACHES]
        compiled, self._head = self._load([])
        check_precision(compiled, properties, device)
        self._step = PagedStep(compiled)
        self._caches: dict[str, openvino.Tensor] = {}
        self._inspected: PagedStep | None = None
        self.block_size = self._step.input_shape("value_cache.0")[2]

    @property
    def block_bytes(self) -> int:
        """Bytes of a block in all layers."""
        numbers = {name: math.prod(self._step.input_shape(name)[1:]) for name in self._names}
        return sum(
            count * self._step.input_type(name).bitwidth // 8 for name, count in numbers.items()
        )

    def allocate(self, num_blocks: int) -> None:
        """Make the cache. The system gives memory to a block when it is first written."""
        for name in self._names:
            kind = self._step.input_type(name)
            shape = [num_blocks, *self._step.input_shape(name)[1:]]
            memory = np.zeros(math.prod(shape) * kind.bitwidth // 8, dtype=np.uint8)
            self._caches[name] = openvino.Tensor(memory, openvino.Shape(shape), kind)
        self._step.set_caches(self._caches)

    def run(self, step: StepInput) -> StepResult:
        """Compute a step. The result is valid until the next one."""
        batch = build_batch(step, self.block_size)
        num_sampled = sum(len(sequence.sampling_inputs) for sequence in step.sequences)
        rows = batch.output_rows
        self._step.run(batch, sampled=rows[:num_sampled], read=rows[num_sampled:])
        logits, hidden = self._step.output("logits"), self._step.output("hidden")
        return StepResult(logits if num_sampled else None, hidden)

    def logits(self, hidden: Tensor) -> Tensor:
        """The output layer: [n, H] to float32 [n, V]."""
        self._head.set_input_tensor(openvino.Tensor(hidden.numpy(), shared_memory=True))
        self._head.infer()
        return torch.from_numpy(self._head.get_output_tensor().data)

    def inspect(self, step: StepInput, observe: Observer) -> None:
        """See InspectableRunner. The first call loads the graph anew, with more outputs."""
        if self._inspected is None:
            self._inspected = PagedStep(self._load(self._tensors)[0])
            self._inspected.set_caches(self._caches)
        batch = build_batch(step, self.block_size)
        every = np.arange(len(batch.input_ids))
        self._inspected.run(batch, sampled=every, read=every[:0])
        for name in (*self._tensors, LOGITS):
            observe(name, self._inspected.output(name).clone())


def _load(
    core: openvino.Core,
    folder: Path,
    device: str,
    properties: dict[str, object],
    outputs: list[str],
) -> tuple[openvino.CompiledModel, openvino.InferRequest]:
    """The folder's graph with paged attention, and its output layer.

    Args:
        outputs: names of inner tensors that become outputs, too.
    """
    try:
        graph = core.read_model(folder / names.PAGED)
        head = output_layer(graph)
        graph.add_outputs(outputs)
        paged_attention_transformation(graph)
        compiled = core.compile_model(graph, device, properties)
        return compiled, core.compile_model(head, device, properties).create_infer_request()
    except RuntimeError as error:
        raise DeviceError(f"OpenVINO cannot run the paged graph on {device}: {error}") from None
