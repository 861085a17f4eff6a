"""Executes steps with one dynamic graph over a paged cache, by OpenVINO's paged attention.

A step may hold any mix of prefill chunks and decodes, as on other devices.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino
import torch
from numpy.typing import NDArray
from openvino._offline_transformations import paged_attention_transformation
from torch import Tensor

from glmserve.contract.step import StepInput
from glmserve.errors import DeviceError
from glmserve.graphs import names
from glmserve.graphs.openvino_precision import check_precision
from glmserve.graphs.step_result import StepResult
from glmserve.model_config import ModelConfig
from glmserve.ops.batch import Batch
from glmserve.runner.batch import build_batch

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
        self._num_layers = model.num_layers
        try:
            graph = core.read_model(folder / names.PAGED)
            paged_attention_transformation(graph)
            self._compiled = core.compile_model(graph, device, properties)
            head = core.compile_model(
                core.read_model(folder / names.OUTPUT_LAYER), device, properties
            )
        except RuntimeError as error:
            raise DeviceError(f"OpenVINO cannot run the paged graph on {device}: {error}") from None
        check_precision(self._compiled, properties, device)
        self._request = self._compiled.create_infer_request()
        self._head = head.create_infer_request()
        self.block_size = self._cache_shape("value_cache.0")[2]

    @property
    def block_bytes(self) -> int:
        """Bytes of a block in all layers."""
        total = 0
        for cache in self._cache_names():
            port = self._compiled.input(cache)
            numbers = int(np.prod(self._cache_shape(cache)[1:]))
            total += numbers * port.get_element_type().bitwidth // 8
        return total

    def allocate(self, num_blocks: int) -> None:
        """Make the cache."""
        self._num_blocks = num_blocks
        for cache in self._cache_names():
            shape = [num_blocks, *self._cache_shape(cache)[1:]]
            tensor = openvino.Tensor(self._compiled.input(cache).get_element_type(), shape)
            tensor.data[:] = 0
            self._request.set_tensor(cache, tensor)

    def run(self, step: StepInput) -> StepResult:
        """Compute a step."""
        hidden = torch.from_numpy(self._infer(build_batch(step, self.block_size)))
        num_sampled = sum(len(sequence.sampling_inputs) for sequence in step.sequences)
        logits = self.logits(hidden[:num_sampled]) if num_sampled else None
        return StepResult(logits, hidden[num_sampled:])

    def logits(self, hidden: Tensor) -> Tensor:
        """The output layer: [n, H] to float32 [n, V]."""
        self._head.set_input_tensor(openvino.Tensor(hidden.numpy(), shared_memory=True))
        self._head.infer()
        return torch.from_numpy(self._head.get_output_tensor().data.copy())

    def _infer(self, batch: Batch) -> NDArray[np.float32]:
        """Write K/V of all tokens; the last hidden states of the output rows."""
        past = batch.context_lens - np.diff(batch.query_start)
        num_blocks = -(-batch.context_lens // batch.block_size)
        taken = np.arange(batch.block_tables.shape[1]) < num_blocks[:, None]
        begins = np.zeros(len(num_blocks) + 1, dtype=np.int32)
        np.cumsum(num_blocks, out=begins[1:])
        inputs = {
            "input_ids": batch.input_ids,
            "position_ids": batch.positions,
            "past_lens": past.astype(np.int32),
            "subsequence_begins": batch.query_start.astype(np.int32),
            "block_indices": batch.block_tables[taken].astype(np.int32),
            "block_indices_begins": begins,
            "max_context_len": np.array(batch.context_lens.max(), dtype=np.int32),
            "output_rows": batch.output_rows,
        }
        for name, array in inputs.items():
            self._request.set_tensor(name, openvino.Tensor(array))
        self._request.infer()
        hidden: NDArray[np.float32] = self._request.get_output_tensor().data.copy()
        return hidden

    def _cache_names(self) -> list[str]:
        return [f"{kind}.{i}" for i in range(self._num_layers) for kind in _CACHES]

    def _cache_shape(self, name: str) -> list[int]:
        """Its first dimension is -1."""
        shape = self._compiled.input(name).get_partial_shape()
        return [-1 if d.is_dynamic else d.get_length() for d in shape]
