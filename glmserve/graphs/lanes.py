"""Executes steps with static graphs over lanes: one graph for chunks of prompts, some for decodes.

A block is a lane: it holds a whole context, so a sequence's block table is one block.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from glmserve.contract.step import ScheduledSequence, StepInput, unpack_int32
from glmserve.graphs import names
from glmserve.graphs.inspection import LaneInspector
from glmserve.graphs.lane_call import LaneCall, PartResult
from glmserve.graphs.lane_part import LanePart
from glmserve.graphs.lane_pipeline import LanePipeline
from glmserve.graphs.lane_shape import LaneShape
from glmserve.graphs.manifest import Manifest
from glmserve.graphs.session import Array, Graph, GraphRuntime
from glmserve.graphs.step_result import StepResult
from glmserve.model_config import ModelConfig


class LaneModel:
    """A model whose graphs are in a compiled folder.

    Args:
        runtimes: one for each part of the graphs.
        at_once: they are on several devices, which work at the same time.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        model: ModelConfig,
        runtimes: Sequence[GraphRuntime],
        *,
        at_once: bool = False,
    ) -> None:
        total_len = manifest.total_len
        shapes = {names.BASE: LaneShape(1, manifest.prompt_len, total_len)}
        for size in manifest.batch_sizes:
            shapes[names.incremental(size)] = LaneShape(size, 1, total_len)
        self._chunk = manifest.prompt_len
        self._sizes = sorted(manifest.batch_sizes)
        self._hidden_size = model.hidden_size
        count = len(runtimes)
        self._parts = [
            LanePart(folder, number, count, layers, model, shapes, manifest.dtype, runtime)
            for number, (layers, runtime) in enumerate(
                zip(_ranges(manifest.split), runtimes, strict=True)
            )
        ]
        self._pipeline = LanePipeline(self._parts, at_once=at_once)
        self._head = _Head(runtimes[-1].load(folder / names.HEAD), model)
        self.inspector: LaneInspector | None = None
        """None: the folder has no inspection graph."""
        if names.INSPECTION in manifest.files:
            graph = runtimes[0].load(folder / names.INSPECTION)
            caches = self._parts[0].caches
            self.inspector = LaneInspector(graph, model, caches, manifest.prompt_len)

    @property
    def cache_bytes(self) -> int:
        """Of all caches."""
        return sum(part.caches.num_bytes for part in self._parts)

    def run(self, step: StepInput) -> StepResult:
        """Compute a step."""
        return self.begin(step)()

    def begin(self, step: StepInput) -> Callable[[], StepResult]:
        """Begin a step: its decodes go together, its chunks of prompts one after the other.

        Returns:
            A function that waits for the result.
        """
        results: dict[int, Callable[[], _Rows]] = {}
        decodes = [i for i, s in enumerate(step.sequences) if len(s.token_ids) == 1]
        if decodes:
            rows = self._decode([step.sequences[i] for i in decodes])
            results = dict(zip(decodes, rows, strict=True))
        for i, sequence in enumerate(step.sequences):
            if i not in results:
                results[i] = self._read(sequence)
        return partial(self._result, step, [results[i] for i in range(len(step.sequences))])

    def logits(self, hidden: Tensor) -> Tensor:
        """The output layer: [n, H] to float32 [n, V]."""
        return torch.from_numpy(self._head.run(hidden.numpy()))

    def close(self) -> None:
        """End the threads of the parts."""
        self._pipeline.close()

    def _result(self, step: StepInput, waiting: Sequence[Callable[[], _Rows]]) -> StepResult:
        rows = [wait() for wait in waiting]
        both = list(zip(step.sequences, rows, strict=True))
        logits = [found.logits for s, found in both if s.sampling]
        hidden = [found.hidden for s, found in both if s.is_read_whole]
        nothing = np.zeros((0, self._hidden_size), np.float32)
        return StepResult(
            torch.from_numpy(np.stack(logits)) if logits else None,
            torch.from_numpy(np.concatenate(hidden) if hidden else nothing),
        )

    def _decode(self, sequences: Sequence[ScheduledSequence]) -> list[Callable[[], _Rows]]:
        """One token of each sequence, by the smallest graph that holds all their lanes."""
        lanes = [_lane(sequence) for sequence in sequences]
        span = max(lanes) - min(lanes)
        size = next(size for size in self._sizes if span < size)
        first = min(*lanes, self._sizes[-1] - size)
        places = [lane - first for lane in lanes]
        token_ids, past_lengths = np.zeros((size, 1), np.int64), np.zeros(size, np.int64)
        token_ids[places, 0] = [sequence.token_ids[0] for sequence in sequences]
        past_lengths[places] = [sequence.start for sequence in sequences]
        call = LaneCall(names.incremental(size), first, token_ids, past_lengths, places, 1)
        done = self._pipeline.begin(call)
        return [partial(_row, done, place) for place in places]

    def _read(self, sequence: ScheduledSequence) -> Callable[[], _Rows]:
        """A chunk of a prompt, by as many calls of the base graph as it takes."""
        lane, chunk = _lane(sequence), self._chunk
        calls: list[tuple[int, Future[PartResult]]] = []
        for offset in range(0, len(sequence.token_ids), chunk):
            part = sequence.token_ids[offset : offset + chunk]
            token_ids = np.zeros((1, chunk), np.int64)
            token_ids[0, : len(part)] = part
            past_lengths = np.array([sequence.start + offset])
            call = LaneCall(names.BASE, lane, token_ids, past_lengths, [0], len(part))
            calls.append((len(part), self._pipeline.begin(call)))
        return partial(_last_row, calls)


class _Rows(NamedTuple):
    """What a sequence gets from a step."""

    logits: Array
    """float32 [V], after its last token."""
    hidden: Array
    """float32 [n, H] of its new tokens."""


def _row(done: Future[PartResult], place: int) -> _Rows:
    """Of a decode."""
    result = done.result()
    return _Rows(result.logits[place], result.hidden[place : place + 1])


def _last_row(calls: Sequence[tuple[int, Future[PartResult]]]) -> _Rows:
    """Of a prompt's chunks: numbers of tokens, and results."""
    results = [done.result() for _, done in calls]
    hidden = [r.hidden[:count] for r, (count, _) in zip(results, calls, strict=True)]
    return _Rows(results[-1].logits[0], np.concatenate(hidden))


def _ranges(split: Sequence[int]) -> list[range]:
    """The layers of each part, by their numbers."""
    stops = list(accumulate(split))
    return [range(stop - size, stop) for size, stop in zip(split, stops, strict=True)]


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
