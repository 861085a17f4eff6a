"""The GPU's runner on an emulated GPU: graphs, steps queued ahead of results, padding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from glmserve.contract.sampling import Sampling
from glmserve.contract.step import (
    PLACEHOLDER_TOKEN_ID,
    SamplingInput,
    ScheduledSequence,
    ScoreInput,
    StepInput,
)
from glmserve.errors import OptionError
from glmserve.ops.step_shape import StepShape
from glmserve.runner.gpu_runner import GpuRunner
from glmserve.runner.graph_shapes import decode_sizes, graph_shapes, mixed_sizes
from glmserve.runner.graphs import resolve_on_device
from support import emulated_gpu
from support.decoding import Decoding, run_step
from support.emulated_gpu import EmulatedAccelerator
from support.exhaustive import exhaustive
from support.golden import read_greedy

GREEDY = SamplingInput()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["glm4_base", exhaustive("glm2_mha")])
def test_greedy_text_of_the_original(golden_models: Path, name: str) -> None:
    """Prompts in chunks, one ahead of the other, then decodes of both by a graph."""
    prompts, want = read_greedy(golden_models / name)
    runner = emulated_gpu.load(golden_models / name)
    assert Decoding(runner, prompts[:2], 4).outputs(3, chunk=7) == [t[:3] for t in want[:2]]


def test_greedy_text_of_whole_prompts(golden_models: Path) -> None:
    """ChatGLM-6B, by torch's attention."""
    prompts, want = read_greedy(golden_models / "glm1_base")
    runner = emulated_gpu.load(golden_models / "glm1_base", max_step_tokens=64)
    assert Decoding(runner, prompts[-2:], 24).outputs(24) == want[-2:]
    assert runner.info.limits.max_context == 64


def test_greedy_text_behind_a_prefix(golden_models: Path) -> None:
    prompts, want = read_greedy(golden_models / "glm2_ptuning")
    prefix = str(golden_models / "glm2_ptuning")
    runner = emulated_gpu.load(golden_models / "glm2_base", ptuning_checkpoint=prefix)
    assert Decoding(runner, prompts[:2], 8).outputs(6, chunk=7) == [t[:6] for t in want[:2]]


def decode_ahead(
    runner: GpuRunner, prompt: list[int], how: list[SamplingInput], request_id: int = 3
) -> list[int]:
    """Tokens of one request; each step is queued before anybody looks at the last one's result."""
    table = np.arange(8, dtype=np.int32).tobytes()
    waits = [
        runner.execute(StepInput(0, [ScheduledSequence(request_id, prompt, 0, table, how[0])]))
    ]
    for i, sampling in enumerate(how[1:]):
        sequence = ScheduledSequence(
            request_id, [PLACEHOLDER_TOKEN_ID], len(prompt) + i, table, sampling
        )
        waits.append(runner.execute(StepInput(i + 1, [sequence])))
    return [wait().token_ids[0] for wait in waits]


@pytest.fixture(scope="module")
def accelerator() -> EmulatedAccelerator:
    return EmulatedAccelerator()


@pytest.fixture(scope="module")
def runner(golden_models: Path, accelerator: EmulatedAccelerator) -> GpuRunner:
    return emulated_gpu.load(golden_models / "glm2_bin_sharded", accelerator)


class TestQueuedAhead:
    def test_goes_on_from_tokens_that_nobody_has_seen(
        self, runner: GpuRunner, golden_models: Path, accelerator: EmulatedAccelerator
    ) -> None:
        prompts, want = read_greedy(golden_models / "glm2_bin_sharded")
        assert decode_ahead(runner, prompts[0], [GREEDY] * 4) == want[0][:4]
        assert accelerator.unread == 0

    def test_beside_another_prompt(
        self, runner: GpuRunner, golden_models: Path, accelerator: EmulatedAccelerator
    ) -> None:
        """A graph for prompts reads the pending token of a decode as well."""
        prompts, want = read_greedy(golden_models / "glm2_bin_sharded")
        tables = [np.arange(6 * i, 6 * i + 6, dtype=np.int32).tobytes() for i in range(2)]
        first = [ScheduledSequence(0, prompts[0], 0, tables[0], GREEDY)]
        second = [
            ScheduledSequence(1, prompts[1][:5], 0, tables[1], None),
            ScheduledSequence(0, [PLACEHOLDER_TOKEN_ID], len(prompts[0]), tables[0], GREEDY),
        ]
        before = accelerator.replays
        waits = [runner.execute(StepInput(i, step)) for i, step in enumerate((first, second))]
        assert accelerator.replays == before + 2
        assert [wait().token_ids[0] for wait in waits] == want[0][:2]

    def test_penalties_know_the_pending_token(self, runner: GpuRunner) -> None:
        """The runner adds to the history what it has chosen itself."""
        prompt = [5, 9, 2]
        chosen: list[int] = []
        table = np.arange(8, dtype=np.int32).tobytes()

        def penalised(history: list[int]) -> SamplingInput:
            packed = np.array(history, dtype=np.int32).tobytes()
            return SamplingInput(
                history=packed, prompt_length=3, sampling=Sampling(repetition_penalty=50.0)
            )

        for i in range(4):
            ids = [chosen[-1]] if chosen else prompt
            start = len(prompt) + i - 1 if chosen else 0
            sequence = ScheduledSequence(1, ids, start, table, penalised([*prompt, *chosen]))
            chosen += run_step(runner, StepInput(i, [sequence])).token_ids
        how = [penalised([*prompt, *chosen[: max(0, i - 1)]]) for i in range(4)]
        assert decode_ahead(runner, prompt, how) == chosen
        assert len({*prompt, *chosen}) == 7


class TestGraphs:
    def test_decodes_are_replayed(
        self, runner: GpuRunner, accelerator: EmulatedAccelerator
    ) -> None:
        before = accelerator.replays
        run_step(
            runner, StepInput(0, [ScheduledSequence(i, [7], 0, _block(i), GREEDY) for i in (0, 1)])
        )
        assert accelerator.replays == before + 1

    def test_what_a_longer_batch_left_behind_is_padding_for_a_shorter_one(
        self, runner: GpuRunner
    ) -> None:
        tables = [np.array([i], dtype=np.int32).tobytes() for i in range(3)]

        def decode(count: int) -> list[int]:
            rows = [ScheduledSequence(i, [7 + i], 0, tables[i], GREEDY) for i in range(count)]
            return run_step(runner, StepInput(0, rows)).token_ids

        alone = decode(1)
        three = decode(3)
        assert decode(2) == three[:2]
        assert decode(1) == alone == three[:1]

    def test_a_chunk_of_one_token_chooses_nothing(
        self, runner: GpuRunner, accelerator: EmulatedAccelerator
    ) -> None:
        """It looks like a decode, but nothing is sampled: a graph for prompts computes it."""
        before = accelerator.replays
        silent = ScheduledSequence(0, [7], 0, _block(0), None)
        assert run_step(runner, StepInput(0, [silent])).token_ids == []
        assert accelerator.replays == before + 1

    def test_scored_prompts_run_kernel_by_kernel(
        self, runner: GpuRunner, accelerator: EmulatedAccelerator
    ) -> None:
        before = accelerator.replays
        scored = ScheduledSequence(0, [7, 8], 0, _block(0), None, ScoreInput([8], 0))
        assert len(run_step(runner, StepInput(0, [scored])).scores[0]) == 1
        assert accelerator.replays == before

    @pytest.mark.parametrize(
        ("largest", "sizes"),
        [
            (1, [1]),
            (3, [1, 2, 3]),
            (4, [1, 2, 4]),
            (64, [1, 2, 4, 8, 16, 24, 32, 40, 48, 56, 64]),
            (100, [1, 2, 4, 8, 16, 24, 32, 40, 48, 56, 64, 96, 100]),
        ],
    )
    def test_sizes(self, largest: int, sizes: list[int]) -> None:
        assert decode_sizes(largest) == sizes

    @pytest.mark.parametrize(
        ("largest", "sizes"),
        [
            (1, []),
            (2, [2]),
            (16, [16]),
            (100, [16, 32, 64, 96, 100]),
            (2048, [16, 32, 64, 96, 128, 192, 256, 320, 384, 448, 512]),
        ],
    )
    def test_mixed_sizes(self, largest: int, sizes: list[int]) -> None:
        assert mixed_sizes(largest) == sizes

    def test_the_largest_shape_is_recorded_first(self) -> None:
        shapes = graph_shapes(64, 2048, 32768)
        assert shapes[0] == StepShape(
            tokens=512, decodes=64, prompts=64, sequences=64, outputs=64, context=32768
        )
        assert [s.tokens for s in shapes] == sorted((s.tokens for s in shapes), reverse=True)


def test_pending_tokens_are_taken_from_the_last_step() -> None:
    ids = torch.tensor([5, -1, -3, 0])
    last = torch.tensor([70, 80, -1, 90])
    assert resolve_on_device(ids, last).tolist() == [5, 70, 0, 0]


@pytest.mark.slow
def test_deterministic_bits_do_not_depend_on_company_or_chunks(golden_models: Path) -> None:
    """The same prompt whole, in chunks, token by token, alone and among others."""
    runner = emulated_gpu.load(
        golden_models / "glm2_bin_sharded", deterministic=True, max_batch_size=2
    )
    ids = [5, 9, 2, 30, 41, 7, 1]
    table = np.arange(2, dtype=np.int32).tobytes()

    def read(chunk: int, companions: int) -> list[float]:
        found: list[float] = []
        others = [
            ScheduledSequence(i + 1, [i + 1] * (1 + 2 * i), 0, _block(4 + i), GREEDY)
            for i in range(companions)
        ]
        for start in range(0, len(ids), chunk):
            part = ids[start : start + chunk]
            score = ScoreInput(ids[start + 1 : start + 1 + len(part)], 0)
            asked = ScheduledSequence(0, part, start, table, None, score)
            output = run_step(runner, StepInput(0, [*others[:1], asked, *others[1:]]))
            found += [item.logprob for item in output.scores[0]]
        return found

    alone = read(len(ids), 0)
    assert read(len(ids), 1) == read(3, 0) == alone
    assert read(1, 1) == alone


def test_drafts_are_refused(golden_models: Path) -> None:
    with pytest.raises(OptionError, match="--speculative-tokens works on a CPU only"):
        emulated_gpu.load(golden_models / "glm2_bin_sharded", drafts=True)


def _block(index: int) -> bytes:
    return np.array([index], dtype=np.int32).tobytes()
