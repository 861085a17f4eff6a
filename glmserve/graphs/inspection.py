"""The tensors of a sequence as a compiled folder computes them, by its inspection graph."""

from __future__ import annotations

import numpy as np
import torch

from glmserve.contract.step import StepInput, unpack_int32
from glmserve.graphs.lane_caches import LaneCaches
from glmserve.graphs.session import Array, Graph
from glmserve.graphs.watched_tensors import watched_tensors
from glmserve.model_config import ModelConfig
from glmserve.runner.inspection import Observer
from glmserve.runner.tensor_names import LOGITS, tensor_widths


class LaneInspector:
    """Runs the inspection graph over the lanes of a model.

    Args:
        chunk: tokens of a call.
    """

    def __init__(self, graph: Graph, model: ModelConfig, caches: LaneCaches, chunk: int) -> None:
        self._graph = graph
        self._model = model
        self._caches = caches
        self._token_ids = np.zeros((1, chunk), np.int64)
        self._past_lengths = np.zeros(1, np.int64)
        lead, dtype = (model.num_layers, 1, model.num_kv_heads), caches.keys.dtype
        self._new_keys = np.zeros((*lead, model.head_dim, chunk), dtype)
        self._new_values = np.zeros((*lead, chunk, model.head_dim), dtype)
        widths = tensor_widths(model)
        self._tensors: dict[str, Array] = {
            name: np.zeros((chunk, widths[name.rpartition(".")[2]]), np.float32)
            for name in (*watched_tensors(model), LOGITS)
        }

    def inspect(self, step: StepInput, observe: Observer) -> None:
        """See InspectableRunner."""
        (sequence,) = step.sequences
        lane, chunk = unpack_int32(sequence.block_table)[0], self._token_ids.shape[1]
        inputs = {
            "input_ids": self._token_ids,
            "past_lengths": self._past_lengths,
            **self._caches.inputs(lane, 1),
        }
        outputs = {"new_keys": self._new_keys, "new_values": self._new_values, **self._tensors}
        call = self._graph.bind(inputs, outputs)
        for offset in range(0, len(sequence.token_ids), chunk):
            part = sequence.token_ids[offset : offset + chunk]
            start, count = sequence.start + offset, len(part)
            self._token_ids[0, :count] = part
            self._past_lengths[0] = start
            call.run()
            keys, values = self._new_keys[:, 0, ..., :count], self._new_values[:, 0, :, :count]
            self._caches.append(lane, start, keys, values)
            for name, tensor in self._tensors.items():
                observe(name, torch.from_numpy(tensor[:count].copy()))
