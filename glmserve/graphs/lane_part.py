"""Consecutive layers of a model as graphs on one device, with the caches of these layers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from glmserve.graphs import names
from glmserve.graphs.lane_caches import LaneCaches
from glmserve.graphs.lane_call import LaneCall, PartResult
from glmserve.graphs.lane_shape import LaneShape
from glmserve.graphs.session import Array, BoundGraph, Graph, GraphRuntime
from glmserve.model_config import ModelConfig

_NOTHING = np.zeros((0, 0), np.float32)


class LanePart:
    """One part of the graphs. Calls come one after the other.

    Args:
        folder: the compiled folder.
        number: of the part, from 0.
        count: of all parts.
        layers: of this part.
        shapes: of each graph, by its name.
        dtype: of activations and caches.
        runtime: loads graphs onto the device.
    """

    def __init__(
        self,
        folder: Path,
        number: int,
        count: int,
        layers: range,
        model: ModelConfig,
        shapes: Mapping[str, LaneShape],
        dtype: str,
        runtime: GraphRuntime,
    ) -> None:
        lanes = max(shape.lanes for shape in shapes.values())
        total_len = shapes[names.BASE].total_len
        self.caches = LaneCaches(model, layers, lanes, total_len, dtype)
        self._graphs = {
            graph: _PartGraph(
                runtime.load(folder / names.parts(graph, count)[number]),
                model,
                layers,
                shape,
                self.caches,
            )
            for graph, shape in shapes.items()
        }

    def run(self, call: LaneCall, stream: Array | None) -> PartResult:
        """Compute a call, and write K and V of its tokens into the caches.

        Args:
            stream: [T, H] of the part before; None: this is the first one.
        """
        lanes = [call.first + place for place in call.places]
        starts = call.past_lengths[call.places]
        for lane, start in zip(lanes, starts, strict=True):
            if start == 0:
                self.caches.begin(lane)
        graph = self._graphs[call.graph]
        result = graph.run(call, stream)
        if graph.shape.tokens == 1:
            keys, values = graph.new_keys[..., 0], graph.new_values[..., 0, :]
            self.caches.append_one(lanes, starts, keys[:, call.places], values[:, call.places])
        else:
            keys = graph.new_keys[:, 0, ..., : call.tokens]
            values = graph.new_values[:, 0, :, : call.tokens]
            self.caches.append(lanes[0], int(starts[0]), keys, values)
        return result


class _PartGraph:
    """A graph for any lanes, with its inputs and outputs; see onnx_lanes.py for shapes."""

    def __init__(
        self,
        graph: Graph,
        model: ModelConfig,
        layers: range,
        shape: LaneShape,
        caches: LaneCaches,
    ) -> None:
        self.shape = shape
        self._graph = graph
        self._caches = caches
        self._by_first: dict[int, BoundGraph] = {}
        lead = (len(layers), shape.lanes, model.num_kv_heads)
        dtype, num_tokens = caches.keys.dtype, shape.lanes * shape.tokens
        width = (num_tokens, model.hidden_size)
        self.new_keys = np.zeros((*lead, model.head_dim, shape.tokens), dtype)
        self.new_values = np.zeros((*lead, shape.tokens, model.head_dim), dtype)
        self._inputs: dict[str, Array] = {"past_lengths": np.zeros(shape.lanes, np.int64)}
        self._outputs: dict[str, Array] = {
            "new_keys": self.new_keys,
            "new_values": self.new_values,
        }
        if layers.start == 0:
            self._inputs["input_ids"] = np.zeros((shape.lanes, shape.tokens), np.int64)
        else:
            self._inputs["stream_in"] = np.zeros(width, dtype)
        if layers.stop < model.num_layers:
            self._outputs["stream_out"] = np.zeros(width, dtype)
            return
        self._outputs["logits"] = np.zeros((shape.lanes, model.vocab_size), np.float32)
        self._outputs["hidden"] = np.zeros(width, np.float32)
        if shape.tokens > 1:
            self._inputs["last"] = np.zeros(1, np.int64)

    def run(self, call: LaneCall, stream: Array | None) -> PartResult:
        """Compute a call. Results are copies."""
        given = {
            "past_lengths": call.past_lengths,
            "input_ids": call.token_ids,
            "stream_in": stream,
            "last": call.tokens - 1,
        }
        for name, array in self._inputs.items():
            array[:] = given[name]
        self._at(call.first).run()
        found = {name: self._outputs.get(name) for name in ("stream_out", "logits", "hidden")}
        copies = {name: None if a is None else a.copy() for name, a in found.items()}
        logits, hidden = copies["logits"], copies["hidden"]
        return PartResult(
            copies["stream_out"],
            _NOTHING if logits is None else logits,
            _NOTHING if hidden is None else hidden,
        )

    def _at(self, first: int) -> BoundGraph:
        """The graph, bound to the caches of the lanes from `first` on."""
        if first not in self._by_first:
            caches = self._caches.inputs(first, self.shape.lanes)
            bound = self._graph.bind({**self._inputs, **caches}, self._outputs)
            self._by_first[first] = bound
        return self._by_first[first]
