"""Executes steps with one dynamic graph over a paged cache, by OpenVINO's paged attention.

A step may hold any mix of prefill chunks and decodes, as on other devices.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import torch
from numpy.typing import NDArray
from openvino._offline_transformations import paged_attention_transformation
from torch import Tensor

from glmserve.contract.step import StepInput
from glmserve.errors import DeviceError
from glmserve.graphs import names
from glmserve.graphs.openvino_paged import output_layer
from glmserve.graphs.openvino_precision import check_precision
from glmserve.graphs.step_result import StepResult
from glmserve.model_config import ModelConfig
from glmserve.ops.batch import Batch, Int64Array
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
        self._caches: list[NDArray[np.uint8]] = []
        self._inputs: dict[str, NDArray[Any]] = {}
        try:
            graph = core.read_model(folder / names.PAGED)
            head = output_layer(graph)
            paged_attention_transformation(graph)
            self._compiled = core.compile_model(graph, device, properties)
            self._head = core.compile_model(head, device, properties).create_infer_request()
        except RuntimeError as error:
            raise DeviceError(f"OpenVINO cannot run the paged graph on {device}: {error}") from None
        check_precision(self._compiled, properties, device)
        self._request = self._compiled.create_infer_request()
        self.block_size = self._cache_shape("value_cache.0")[2]

    @property
    def block_bytes(self) -> int:
        """Bytes of a block in all layers."""
        total = 0
        for cache in self._cache_names():
            port = self._compiled.input(cache)
            numbers = math.prod(self._cache_shape(cache)[1:])
            total += numbers * port.get_element_type().bitwidth // 8
        return total

    def allocate(self, num_blocks: int) -> None:
        """Make the cache. The system gives memory to a block when it is first written."""
        for cache in self._cache_names():
            kind = self._compiled.input(cache).get_element_type()
            shape = [num_blocks, *self._cache_shape(cache)[1:]]
            memory = np.zeros(math.prod(shape) * kind.bitwidth // 8, dtype=np.uint8)
            self._caches.append(memory)
            tensor = openvino.Tensor(memory, openvino.Shape(shape), kind)
            self._request.set_tensor(cache, tensor)

    def run(self, step: StepInput) -> StepResult:
        """Compute a step. The result is valid until the next one."""
        batch = build_batch(step, self.block_size)
        num_sampled = sum(len(sequence.sampling_inputs) for sequence in step.sequences)
        rows = batch.output_rows
        self._infer(batch, sampled=rows[:num_sampled], read=rows[num_sampled:])
        logits, hidden = self._outputs()
        return StepResult(logits if num_sampled else None, hidden)

    def logits(self, hidden: Tensor) -> Tensor:
        """The output layer: [n, H] to float32 [n, V]."""
        self._head.set_input_tensor(openvino.Tensor(hidden.numpy(), shared_memory=True))
        self._head.infer()
        return torch.from_numpy(self._head.get_output_tensor().data)

    def _infer(self, batch: Batch, sampled: Int64Array, read: Int64Array) -> None:
        """Execute the graph, which writes K/V of all tokens.

        Args:
            sampled: rows of logits.
            read: rows of hidden states.
        """
        past = batch.context_lens - np.diff(batch.query_start)
        num_blocks = -(-batch.context_lens // batch.block_size)
        taken = np.arange(batch.block_tables.shape[1]) < num_blocks[:, None]
        begins = np.zeros(len(num_blocks) + 1, dtype=np.int32)
        np.cumsum(num_blocks, out=begins[1:])
        inputs: dict[str, NDArray[Any]] = {
            "input_ids": batch.input_ids,
            "position_ids": batch.positions,
            "past_lens": past.astype(np.int32),
            "subsequence_begins": batch.query_start.astype(np.int32),
            "block_indices": batch.block_tables[taken].astype(np.int32),
            "block_indices_begins": begins,
            "max_context_len": np.array(batch.context_lens.max(), dtype=np.int32),
            "sampled_rows": sampled,
            "read_rows": read,
        }
        for name, array in inputs.items():
            self._set_input(name, array)
        self._request.infer()

    def _set_input(self, name: str, array: NDArray[Any]) -> None:
        """Most steps have inputs of the same shapes as the last one, whose memory is used again."""
        held = self._inputs.get(name)
        if held is not None and held.shape == array.shape:
            held[...] = array
        else:
            self._inputs[name] = array = array.copy()
            self._request.set_tensor(name, openvino.Tensor(array, shared_memory=True))

    def _outputs(self) -> tuple[Tensor, Tensor]:
        """Logits and hidden states of the last step."""
        logits, hidden = (
            torch.from_numpy(self._request.get_tensor(name).data) for name in ("logits", "hidden")
        )
        return logits, hidden

    def _cache_names(self) -> list[str]:
        return [f"{kind}.{i}" for i in range(self._num_layers) for kind in _CACHES]

    def _cache_shape(self, name: str) -> list[int]:
        """Its first dimension is -1."""
        shape = self._compiled.input(name).get_partial_shape()
        return [-1 if d.is_dynamic else d.get_length() for d in shape]
