"""Executes steps with a graph that OpenVINO's transformation has given paged attention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import openvino
import torch
from numpy.typing import NDArray
from torch import Tensor

from glmserve.ops.batch import Batch, Int64Array


class PagedStep:
    """A compiled graph with the memory of its inputs."""

    def __init__(self, compiled: openvino.CompiledModel) -> None:
        self._compiled = compiled
        self._request = compiled.create_infer_request()
        self._inputs: dict[str, NDArray[Any]] = {}

    def set_caches(self, caches: Mapping[str, openvino.Tensor]) -> None:
        """Give the graph the caches of all layers, by the names of its inputs."""
        for name, tensor in caches.items():
            self._request.set_tensor(name, tensor)

    def run(self, batch: Batch, sampled: Int64Array, read: Int64Array) -> None:
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

    def output(self, name: str) -> Tensor:
        """An output of the last run; valid until the next one."""
        return torch.from_numpy(self._request.get_tensor(name).data)

    def input_shape(self, name: str) -> list[int]:
        """-1 for dimensions that are not fixed."""
        shape = self._compiled.input(name).get_partial_shape()
        return [-1 if d.is_dynamic else d.get_length() for d in shape]

    def input_type(self, name: str) -> openvino.Type:
        """The numbers of an input."""
        return self._compiled.input(name).get_element_type()

    def _set_input(self, name: str, array: NDArray[Any]) -> None:
        """Most steps have inputs of the same shapes as the last one, whose memory is used again."""
        held = self._inputs.get(name)
        if held is not None and held.shape == array.shape:
            held[...] = array
        else:
            self._inputs[name] = array = array.copy()
            self._request.set_tensor(name, openvino.Tensor(array, shared_memory=True))
