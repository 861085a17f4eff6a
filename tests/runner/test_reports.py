"""What a step reports besides tokens, and masks: runners against the model's own logits."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import numpy as np
import pytest
import torch

from glmserve.config import GraphAttention, GraphTarget, RunnerConfig, report_nothing
from glmserve.contract.sampling import Sampling
from glmserve.contract.step import (
    Logprobs,
    Runner,
    SamplingInput,
    ScheduledSequence,
    ScoreInput,
    StepInput,
    StepOutput,
)
from glmserve.devices.cpu import CpuDevice
from support import emulated_gpu
from support.compiled import compile_model, load_compiled
from support.decoding import run_step
from support.paged_model import PagedModel
from support.tiny_models import BASE, random_weights, write_checkpoint

PROMPT = [5, 9, 2, 30, 41, 7, 7, 1, 16, 3]
TABLE = np.arange(4, dtype=np.int32).tobytes()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("reports")
    write_checkpoint(path, BASE, random_weights(BASE))
    return path


@pytest.fixture(scope="module")
def log_probs(checkpoint: Path) -> np.ndarray:
    """[len(PROMPT), V]"""
    logits = torch.from_numpy(PagedModel(checkpoint).logits(PROMPT))
    return torch.log_softmax(logits, dim=-1).numpy()


class Load(Protocol):
    def __call__(self, checkpoint: Path, never_sampled: tuple[int, ...] = ()) -> Runner: ...


def load_on_cpu(checkpoint: Path, never_sampled: tuple[int, ...] = ()) -> Runner:
    config = RunnerConfig(
        checkpoint=str(checkpoint),
        dtype="float32",
        kv_cache_tokens=256,
        threads=1,
        never_sampled=never_sampled,
    )
    return CpuDevice().create_runner(config, report_nothing)


def load_on_gpu(checkpoint: Path, never_sampled: tuple[int, ...] = ()) -> Runner:
    return emulated_gpu.load(
        checkpoint, kv_cache_tokens=256, max_batch_size=4, never_sampled=never_sampled
    )


class LoadCompiled:
    """Compiles a checkpoint once for each form."""

    def __init__(self, runtime: GraphTarget, attention: GraphAttention) -> None:
        self._form = runtime, attention

    def __call__(self, checkpoint: Path, never_sampled: tuple[int, ...] = ()) -> Runner:
        folder = checkpoint.parent / "-".join((checkpoint.name, *self._form))
        if not folder.exists():
            compile_model(checkpoint, folder, *self._form, dtype="float32")
        return load_compiled(folder, never_sampled=never_sampled)


LOADERS: dict[str, Load] = {
    "cpu": load_on_cpu,
    "gpu": load_on_gpu,
    "onnxruntime": LoadCompiled("onnxruntime", "lanes"),
    "openvino": LoadCompiled("openvino", "paged"),
    "openvino-lanes": LoadCompiled("openvino", "lanes"),
}


@pytest.fixture(params=LOADERS)
def load(request: pytest.FixtureRequest) -> Load:
    return LOADERS[request.param]


def run(runner: Runner, *sequences: ScheduledSequence, masks: Sequence[bytes] = ()) -> StepOutput:
    return run_step(runner, StepInput(1, list(sequences)), lambda: list(masks))


def assert_reports(reported: Logprobs, row: np.ndarray, token_id: int, count: int) -> None:
    best = np.argsort(-row, kind="stable")[:count]
    assert reported.logprob == pytest.approx(row[token_id], abs=1e-5)
    assert reported.top_ids == best.tolist()
    assert reported.top_logprobs == pytest.approx(row[best].tolist(), abs=1e-5)


@pytest.mark.parametrize("temperature", [0.0, 5.0])
def test_logprobs_of_the_chosen_token(
    load: Load, checkpoint: Path, log_probs: np.ndarray, temperature: float
) -> None:
    """They are the model's own, whatever temperature and bias make of them."""
    sampling = SamplingInput(
        noise_key=3, top_logprobs=4, sampling=Sampling(temperature=temperature, logit_bias={1: 3.0})
    )
    silent = ScheduledSequence(1, [4], 0, np.array([5], dtype=np.int32).tobytes(), SamplingInput())
    output = run(load(checkpoint), ScheduledSequence(0, PROMPT, 0, TABLE, sampling), silent)
    reported, nothing = output.logprobs
    assert nothing is None
    assert reported is not None
    assert_reports(reported, log_probs[-1], output.token_ids[0], 4)


def test_ids_that_a_request_names(load: Load, checkpoint: Path, log_probs: np.ndarray) -> None:
    """Also those that are never sampled: the report is the model's own."""
    given = (40, 5, 40)
    asks = SamplingInput(top_logprobs=0, logprob_token_ids=given)
    best = SamplingInput(top_logprobs=2)
    other = ScheduledSequence(1, [4], 0, np.array([5], dtype=np.int32).tobytes(), best)
    output = run(load(checkpoint, (5,)), ScheduledSequence(0, PROMPT, 0, TABLE, asks), other)
    reported, beside = output.logprobs
    assert reported is not None
    assert reported.top_ids == list(given)
    assert reported.top_logprobs == pytest.approx(log_probs[-1, list(given)].tolist(), abs=1e-5)
    assert beside is not None
    assert len(beside.top_ids) == len(beside.top_logprobs) == 2


def test_nothing_is_reported_unasked(load: Load, checkpoint: Path) -> None:
    output = run(load(checkpoint), ScheduledSequence(0, PROMPT, 0, TABLE, SamplingInput()))
    assert (output.logprobs, output.scores, output.pooled) == ([], [], [])


def test_alternatives_are_ids_that_can_be_sampled(
    load: Load, checkpoint: Path, log_probs: np.ndarray
) -> None:
    best = np.argsort(-log_probs[-1], kind="stable")
    never = tuple(best[:3].tolist())
    sampling = SamplingInput(top_logprobs=2)
    output = run(load(checkpoint, never), ScheduledSequence(0, PROMPT, 0, TABLE, sampling))
    reported = output.logprobs[0]
    assert reported is not None
    assert output.token_ids[0] == best[3]
    assert reported.top_ids == best[3:5].tolist()
    assert reported.logprob == pytest.approx(log_probs[-1, best[3]], abs=1e-5)


@pytest.mark.parametrize("chunk", [1, 3, 10])
def test_prompt_scores_and_sums(
    load: Load, checkpoint: Path, log_probs: np.ndarray, chunk: int
) -> None:
    runner = load(checkpoint)
    scores: list[Logprobs] = []
    sums = np.zeros(1, dtype=np.float32)
    for start in range(0, len(PROMPT), chunk):
        ids = PROMPT[start : start + chunk]
        score = ScoreInput(PROMPT[start + 1 : start + 1 + len(ids)], 3)
        decode = ScheduledSequence(7, [4], 0, np.array([5], dtype=np.int32).tobytes(), None)
        output = run(
            runner,
            ScheduledSequence(0, ids, start, TABLE, None, score, pool=True),
            decode,
        )
        scores += output.scores[0]
        sums = sums + np.frombuffer(output.pooled[0], dtype=np.float32)
    assert len(scores) == len(PROMPT) - 1
    for reported, row, token_id in zip(scores, log_probs, PROMPT[1:], strict=False):
        assert_reports(reported, row, token_id, 3)
    whole = run(runner, ScheduledSequence(0, PROMPT, 0, TABLE, None, pool=True)).pooled[0]
    np.testing.assert_allclose(sums, np.frombuffer(whole, dtype=np.float32), atol=1e-4)


def test_long_scores_are_read_in_slices(load: Load, checkpoint: Path) -> None:
    runner = load(checkpoint)
    ids = [i * 7 % 48 for i in range(150)]
    table = np.arange(runner.info.limits.num_blocks, dtype=np.int32).tobytes()
    whole = run(runner, ScheduledSequence(0, ids, 0, table, None, ScoreInput(ids[1:], 1)))
    logits = torch.from_numpy(PagedModel(checkpoint).logits(ids))
    rows = torch.log_softmax(logits, dim=-1).numpy()
    for reported, row, (_, token_id) in zip(whole.scores[0], rows, pairwise(ids), strict=False):
        assert reported.logprob == pytest.approx(row[token_id], abs=1e-5)


def mask_of(*ids: int, size: int = 48) -> bytes:
    bits = np.zeros(size, dtype=np.uint8)
    bits[list(ids)] = 1
    return np.packbits(bits, bitorder="little").tobytes()


def test_masks_restrict_their_own_rows_only(
    load: Load, checkpoint: Path, log_probs: np.ndarray
) -> None:
    runner = load(checkpoint)
    best = np.argsort(-log_probs[-1], kind="stable").tolist()
    tables = [np.array([2 * i, 2 * i + 1], dtype=np.int32).tobytes() for i in range(4)]
    constrained = SamplingInput(constrained=True)
    drawn = SamplingInput(noise_key=1, constrained=True, sampling=Sampling(temperature=2.0))
    rows = [SamplingInput(), constrained, drawn, constrained]
    output = run(
        runner,
        *(ScheduledSequence(i, PROMPT, 0, tables[i], rows[i]) for i in range(4)),
        masks=[mask_of(best[5], best[9]), mask_of(best[40]), b""],
    )
    assert output.token_ids == [best[0], best[5], best[40], best[0]]


def test_a_short_mask_allows_nothing_beyond_its_end(load: Load, checkpoint: Path) -> None:
    output = run(
        load(checkpoint),
        ScheduledSequence(0, PROMPT, 0, TABLE, SamplingInput(constrained=True)),
        masks=[b"\xff"],
    )
    assert output.token_ids[0] < 8


def test_banned_ids(load: Load, checkpoint: Path, log_probs: np.ndarray) -> None:
    best = np.argsort(-log_probs[-1], kind="stable").tolist()
    sampling = SamplingInput(banned=(*best[:2], 10_000))
    output = run(load(checkpoint), ScheduledSequence(0, PROMPT, 0, TABLE, sampling))
    assert output.token_ids == [best[2]]


def test_what_a_mask_leaves_alone_is_never_banned(
    load: Load, checkpoint: Path, log_probs: np.ndarray
) -> None:
    """A structure that can only go on with a stop token goes on."""
    best = np.argsort(-log_probs[-1], kind="stable").tolist()
    sampling = SamplingInput(banned=(best[3],), constrained=True)
    runner = load(checkpoint)
    for allowed, expected in ((best[3:4], best[3]), (best[3:5], best[4])):
        output = run(
            runner, ScheduledSequence(0, PROMPT, 0, TABLE, sampling), masks=[mask_of(*allowed)]
        )
        assert output.token_ids == [expected]
