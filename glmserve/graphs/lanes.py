"""Executes steps with static graphs over lanes: one graph for chunks of prompts, some for decodes.

A block is a lane: it holds a whole context, so a sequence's block table is one block.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from glmserve.contract.step import ScheduledSequence, StepInput, unpack_int32
from glmserve.graphs import names
from glmserve.graphs.inspection import LaneInspector
from glmserve.graphs.lane_caches import LaneCaches
from glmserve.graphs.lane_shape import LaneShape
from glmserve.graphs.manifest import Manifest
from glmserve.graphs.session import Array, BoundGraph, Graph, GraphRuntime
from glmserve.graphs.step_result import StepResult
from glmserve.model_config import ModelConfig


class LaneModel:
    """A model whose graphs are in a compiled folder.

    Args:
        runtimes: one for each part of the graphs.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        model: ModelConfig,
        runtimes: Sequence[GraphRuntime],
    ) -> None:
        lanes, total_len = max(manifest.batch_sizes), manifest.total_len
        self.caches = LaneCaches(model, lanes, total_len, manifest.dtype)
        self._hidden_size = model.hidden_size

        def load(graph: str, shape: LaneShape) -> _Calls:
            files = names.parts(graph, len(manifest.split))
            loaded = [r.load(folder / f) for r, f in zip(runtimes, files, strict=True)]
            return _Calls(loaded, manifest.split, model, shape, self.caches)

        self._base = load(names.BASE, LaneShape(1, manifest.prompt_len, total_len))
        self._incremental = {
            size: load(names.incremental(size), LaneShape(size, 1, total_len))
            for size in manifest.batch_sizes
        }
        self._head = _Head(runtimes[-1].load(folder / names.HEAD), model)
        self.inspector: LaneInspector | None = None
        """None: the folder has no inspection graph."""
        if names.INSPECTION in manifest.files:
            graph = runtimes[0].load(folder / names.INSPECTION)
            self.inspector = LaneInspector(graph, model, self.caches, manifest.prompt_len)

    def run(self, step: StepInput) -> StepResult:
        """Compute a step. Its decodes go together, its chunks of prompts one after the other."""
        results: dict[int, _Rows] = {}
        decodes = [i for i, s in enumerate(step.sequences) if len(s.token_ids) == 1]
        if decodes:
            rows = self._decode([step.sequences[i] for i in decodes])
            results = dict(zip(decodes, rows, strict=True))
        for i, sequence in enumerate(step.sequences):
            if i not in results:
                results[i] = self._read(sequence)
        logits = [results[i].logits for i, s in enumerate(step.sequences) if s.sampling]
        hidden = [results[i].hidden for i, s in enumerate(step.sequences) if s.is_read_whole]
        return StepResult(
            torch.from_numpy(np.stack(logits)) if logits else None,
            torch.from_numpy(np.concatenate(hidden) if hidden else self._nothing()),
        )

    def logits(self, hidden: Tensor) -> Tensor:
        """The output layer: [n, H] to float32 [n, V]."""
        return torch.from_numpy(self._head.run(hidden.numpy()))

    def _nothing(self) -> Array:
        return np.zeros((0, self._hidden_size), np.float32)

    def _decode(self, sequences: Sequence[ScheduledSequence]) -> list[_Rows]:
        """One token of each sequence, by the smallest graph that holds all their lanes."""
        lanes = [_lane(sequence) for sequence in sequences]
        for sequence, lane in zip(sequences, lanes, strict=True):
            if sequence.start == 0:
                self.caches.begin(lane)
        first, last = min(lanes), max(lanes)
        size = next(size for size in sorted(self._incremental) if last - first < size)
        call = self._incremental[size].at(min(first, len(self.caches.keys[0]) - size))
        places = [lane - call.first for lane in lanes]
        starts = [sequence.start for sequence in sequences]
        call.past_lengths[:] = 0
        call.past_lengths[places] = starts
        call.token_ids[places, 0] = [sequence.token_ids[0] for sequence in sequences]
        call.run()
        keys, values = call.new_keys[..., 0], call.new_values[..., 0, :]  # [layers, B, Hkv, D]
        self.caches.append_one(lanes, starts, keys[:, places], values[:, places])
        return [
            _Rows(call.logits[place].copy(), call.hidden[place : place + 1].copy())
            for place in places
        ]

    def _read(self, sequence: ScheduledSequence) -> _Rows:
        """A chunk of a prompt, by as many calls of the base graph as it takes."""
        lane, chunk = _lane(sequence), self._base.shape.tokens
        call = self._base.at(lane)
        hidden = []
        for offset in range(0, len(sequence.token_ids), chunk):
            part = sequence.token_ids[offset : offset + chunk]
            start, count = sequence.start + offset, len(part)
            if start == 0:
                self.caches.begin(lane)
            call.token_ids[0, :count] = part
            call.past_lengths[0] = start
            call.last[0] = count - 1
            call.run()
            self.caches.append(
                lane, start, call.new_keys[:, 0, ..., :count], call.new_values[:, 0, :, :count]
            )
            if sequence.is_read_whole:
                hidden.append(call.hidden[:count].copy())
        return _Rows(call.logits[0].copy(), np.concatenate(hidden) if hidden else self._nothing())


class _Rows(NamedTuple):
    """What a sequence gets from a step."""

    logits: Array
    """float32 [V], after its last token."""
    hidden: Array
    """float32 [n, H] of its new tokens, if it is scored or pooled."""


class _Call(NamedTuple):
    """A graph over some lanes, with its inputs and outputs; see onnx_lanes.py for shapes."""

    parts: list[BoundGraph]
    first: int
    """The first lane."""
    token_ids: Array
    past_lengths: Array
    last: Array
    logits: Array
    hidden: Array
    new_keys: Array
    new_values: Array

    def run(self) -> None:
        """Execute the parts, one after the other."""
        for part in self.parts:
            part.run()


class _Calls:
    """The calls of one graph for any lanes. They share inputs and outputs but for the caches.

    Args:
        graphs: parts of the graph, in order.
        split: layers of each part.
    """

    def __init__(
        self,
        graphs: Sequence[Graph],
        split: Sequence[int],
        model: ModelConfig,
        shape: LaneShape,
        caches: LaneCaches,
    ) -> None:
        self.shape = shape
        self._graphs = graphs
        self._split = split
        self._caches = caches
        self._by_first: dict[int, _Call] = {}
        lead = (model.num_layers, shape.lanes, model.num_kv_heads)
        dtype, num_tokens = caches.keys.dtype, shape.lanes * shape.tokens
        self._token_ids = np.zeros((shape.lanes, shape.tokens), np.int64)
        self._past_lengths = np.zeros(shape.lanes, np.int64)
        self._last = np.zeros(1, np.int64)
        self._streams = [np.zeros((num_tokens, model.hidden_size), dtype) for _ in split[1:]]
        self._logits = np.zeros((shape.lanes, model.vocab_size), np.float32)
        self._hidden = np.zeros((num_tokens, model.hidden_size), np.float32)
        self._new_keys = np.zeros((*lead, model.head_dim, shape.tokens), dtype)
        self._new_values = np.zeros((*lead, shape.tokens, model.head_dim), dtype)

    def at(self, first: int) -> _Call:
        """The call for lanes from `first` on."""
        if first not in self._by_first:
            self._by_first[first] = _Call(
                [self._bind(part, first) for part in range(len(self._graphs))],
                first,
                self._token_ids,
                self._past_lengths,
                self._last,
                self._logits,
                self._hidden,
                self._new_keys,
                self._new_values,
            )
        return self._by_first[first]

    def _bind(self, part: int, first: int) -> BoundGraph:
        start = sum(self._split[:part])
        layers = slice(start, start + self._split[part])
        inputs = {
            "past_lengths": self._past_lengths,
            **self._caches.inputs(layers, first, self.shape.lanes),
        }
        outputs: dict[str, Array] = {
            "new_keys": self._new_keys[layers],
            "new_values": self._new_values[layers],
        }
        if part == 0:
            inputs["input_ids"] = self._token_ids
        else:
            inputs["stream_in"] = self._streams[part - 1]
        if part < len(self._graphs) - 1:
            outputs["stream_out"] = self._streams[part]
        else:
            outputs |= {"logits": self._logits, "hidden": self._hidden}
            if self.shape.tokens > 1:
                inputs["last"] = self._last
        return self._graphs[part].bind(inputs, outputs)


class _Head:
    """The output layer as a graph of its own."""

    def __init__(self, graph: Graph, model: ModelConfig) -> None:
        self._hidden = np.zeros((names.HEAD_ROWS, model.hidden_size), np.float32)
        self._logits = np.zeros((names.HEAD_ROWS, model.vocab_size), np.float32)
        self._graph = graph.bind({"hidden": self._hidden}, {"logits": self._logits})

    def run(self, hidden: Array) -> Array:
        """[n, H] to [n, V]."""
        logits = []
        for start in range(0, len(hidden), names.HEAD_ROWS):
            part = hidden[start : start + names.HEAD_ROWS]
            self._hidden[: len(part)] = part
            self._graph.run()
            logits.append(self._logits[: len(part)].copy())
        return np.concatenate(logits)


def _lane(sequence: ScheduledSequence) -> int:
    return unpack_int32(sequence.block_table)[0]
