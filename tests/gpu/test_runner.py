"""The GPU's runner as a server has it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from compile_server import CHATGLM2_6B, serve
from triton import knobs

from glmserve.config import RunnerConfig
from glmserve.contract.step import (
    PLACEHOLDER_TOKEN_ID,
    SamplingInput,
    ScheduledSequence,
    ScoreInput,
    StepInput,
)
from glmserve.devices.registry import select_device
from glmserve.errors import OptionError
from glmserve.model_config import read_model_config
from glmserve.runner.gpu_runner import GpuRunner
from support.decoding import Decoding, run_step
from support.golden import ATOL, PREFIXES, read_greedy, read_logits

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(300)]  # kernels are compiled on first use

LoadRunner = Callable[..., GpuRunner]
GREEDY = SamplingInput()


@pytest.fixture(scope="module")
def two_layers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """config.json of a ChatGLM2-6B with two of its layers."""
    folder = tmp_path_factory.mktemp("two_layers")
    (folder / "config.json").write_text(json.dumps(CHATGLM2_6B))
    return folder


@pytest.mark.parametrize("name", ["glm2_mha", "glm2_bin_sharded", "glm4_base"])
@pytest.mark.parametrize("chunk", [7, 10_000])
def test_greedy_text_of_the_original(
    load_runner: LoadRunner, golden_models: Path, name: str, chunk: int
) -> None:
    """Which the CPU's runner also makes: prompts in chunks or whole, then decodes by graphs."""
    prompts, want = read_greedy(golden_models / name)
    decoding = Decoding(load_runner(golden_models / name), prompts, len(want[0]) + 1)
    assert decoding.outputs(len(want[0]), chunk=chunk) == want


@pytest.mark.parametrize(("base", "prefix"), [("glm1_base", None), *PREFIXES])
def test_greedy_text_by_torchs_attention(
    load_runner: LoadRunner, golden_models: Path, base: str, prefix: str | None
) -> None:
    """Prompts read in both directions, whole, and P-Tuning prefixes."""
    prompts, want = read_greedy(golden_models / (prefix or base))
    options = {"ptuning_checkpoint": str(golden_models / prefix)} if prefix else {}
    runner = load_runner(golden_models / base, **options)
    decoding = Decoding(runner, prompts, len(want[0]) + 1)
    assert decoding.outputs(len(want[0])) == want


def table(*blocks: int) -> bytes:
    return np.array(blocks, dtype=np.int32).tobytes()


def test_steps_queued_ahead_choose_the_same_tokens(
    load_runner: LoadRunner, golden_models: Path
) -> None:
    """Nobody looks at a result before all steps are queued."""
    folder = golden_models / "glm2_bin_sharded"
    prompts, want = read_greedy(folder)
    runner = load_runner(folder)
    prompts, want, count = prompts[:2], want[:2], len(want[0])
    tables = [table(*range(i * 16, (i + 1) * 16)) for i in range(2)]

    def step(number: int) -> StepInput:
        sequences = [
            ScheduledSequence(
                i, [PLACEHOLDER_TOKEN_ID], len(prompt) + number - 1, tables[i], GREEDY
            )
            if number
            else ScheduledSequence(i, prompt, 0, tables[i], GREEDY)
            for i, prompt in enumerate(prompts)
        ]
        return StepInput(number, sequences[:: -1 if number % 2 else 1])  # rows change places

    waits = [runner.execute(step(number)) for number in range(count)]
    chosen = [wait().token_ids[:: -1 if n % 2 else 1] for n, wait in enumerate(waits)]
    assert [list(tokens) for tokens in zip(*chosen, strict=True)] == want


@contextlib.contextmanager
def compilations() -> Iterator[list[str]]:
    """Yields a list that every newly compiled or loaded specialisation is added to."""
    seen: list[str] = []

    def note(*, repr: str, **_: Any) -> None:
        seen.append(repr)

    before = knobs.runtime.jit_post_compile_hook
    knobs.runtime.jit_post_compile_hook = note
    try:
        yield seen
    finally:
        knobs.runtime.jit_post_compile_hook = before


@pytest.mark.parametrize(
    "options",
    [{}, {"kv_cache_dtype": "int8"}, {"quantization": "int4"}, {"deterministic": True}],
    ids=str,
)
def test_nothing_is_compiled_while_serving(
    load_runner: LoadRunner, two_layers: Path, options: dict[str, Any]
) -> None:
    full = {"block_size": 64, "max_batch_size": 64, "max_step_tokens": 2048, "dtype": "float16"}
    with compilations() as at_start:
        runner = load_runner(
            two_layers, load_format="dummy", kv_cache_tokens=2**16, **full, **options
        )
    assert at_start, "the hook sees nothing"
    with compilations() as later:
        serve(runner, 40)
    assert not later


@pytest.fixture(scope="module")
def deterministic(load_runner: LoadRunner, golden_models: Path) -> GpuRunner:
    return load_runner(golden_models / "glm2_bin_sharded", deterministic=True, dtype="bfloat16")


class TestDeterministic:
    """The same bits, whatever shares a step."""

    IDS = (5, 9, 2, 30, 41, 7, 1, 8, 22, 3, 17, 40, 6, 11, 19, 4, 33, 21)

    def read(self, runner: GpuRunner, chunk: int, companions: int) -> list[float]:
        """Log-probabilities of a prompt that is computed so many tokens at a time."""
        others = [
            ScheduledSequence(i, [i] * (5 * i - 4), 0, table(*range(9 * i, 9 * i + 9)), GREEDY)
            for i in range(1, companions + 1)
        ]
        found: list[float] = []
        for start in range(0, len(self.IDS), chunk):
            part = list(self.IDS[start : start + chunk])
            score = ScoreInput(list(self.IDS[start + 1 : start + 1 + len(part)]), 0)
            asked = ScheduledSequence(0, part, start, table(0, 1), None, score)
            output = run_step(runner, StepInput(0, [*others[:1], asked, *others[1:]]))
            found += [item.logprob for item in output.scores[0]]
        return found

    @pytest.mark.parametrize(("chunk", "companions"), [(18, 7), (5, 0), (3, 3), (1, 0), (1, 7)])
    def test_prompts(self, deterministic: GpuRunner, chunk: int, companions: int) -> None:
        alone = self.read(deterministic, len(self.IDS), 0)
        assert self.read(deterministic, chunk, companions) == alone

    @pytest.mark.parametrize("others", [1, 3, 6])
    def test_decodes_by_graphs_and_without(self, deterministic: GpuRunner, others: int) -> None:
        """A prompt's chunk beside them takes a graph for prompts, a scored one takes none."""
        prompt = ScheduledSequence(0, list(self.IDS), 0, table(0, 1), GREEDY)
        ask = SamplingInput(top_logprobs=5)
        asked = ScheduledSequence(0, [12], len(self.IDS), table(0, 1), ask)
        decodes = [ScheduledSequence(i, [i], 0, table(i + 1), GREEDY) for i in range(1, others + 1)]
        chunk = ScheduledSequence(99, [3, 4], 0, table(20), None)
        scored = ScheduledSequence(98, [3, 4], 0, table(21), None, ScoreInput([4], 0))
        others_of = [[], decodes, [*decodes, chunk], [*decodes, scored]]
        run_step(deterministic, StepInput(0, [prompt]))
        steps = [StepInput(0, [asked, *others]) for others in others_of]
        found = [run_step(deterministic, step).logprobs[0] for step in steps]
        assert all(item == found[0] for item in found)


@pytest.mark.parametrize(
    ("backend", "dtype", "error"),
    [
        ("sdpa", "float32", ATOL),
        ("xformers", "float32", ATOL),
        ("sdpa", "float16", 0.05),
        ("xformers", "float16", 0.05),
    ],
)
def test_backends_agree(
    load_runner: LoadRunner, golden_models: Path, backend: str, dtype: str, error: float
) -> None:
    """With the original's log-probabilities, prompts in chunks beside decodes."""
    folder = golden_models / "glm2_base"
    ids, logits = read_logits(folder)[0]
    log_probs = torch.log_softmax(torch.from_numpy(logits).double(), dim=-1)
    want = log_probs[torch.arange(len(ids) - 1), torch.tensor(ids[1:])].numpy()
    for name in ("triton", backend):
        try:
            runner = load_runner(folder, attention_backend=name, dtype=dtype)
        except OptionError as refusal:
            pytest.skip(refusal.message)
        np.testing.assert_allclose(score(runner, ids), want, rtol=0, atol=error, err_msg=name)


def score(runner: GpuRunner, ids: list[int]) -> list[float]:
    """Log-probabilities of ids[1:]: first 11 at a time, then one by one."""
    blocks = table(*range(-(-len(ids) // runner.info.limits.block_size)))
    found: list[float] = []
    start = 0
    while start < len(ids) - 1:
        count = 11 if start + 11 < len(ids) // 2 else 1
        targets = ids[start + 1 : start + 1 + count]
        asked = ScheduledSequence(
            0, ids[start : start + count], start, blocks, None, ScoreInput(targets, 0)
        )
        found += [item.logprob for item in run_step(runner, StepInput(0, [asked])).scores[0]]
        start += count
    return found


def test_no_more_memory_than_planned(load_runner: LoadRunner, two_layers: Path) -> None:
    """Weights, KV cache, graphs and the largest step, which step_memory foresees."""
    options: dict[str, Any] = {
        "load_format": "dummy",
        "dtype": "float16",
        "block_size": 64,
        "max_batch_size": 64,
        "max_step_tokens": 2048,
        "kv_cache_tokens": 2**16,
    }
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    runner = load_runner(two_layers, **options)
    serve(runner, 40)
    peak = torch.cuda.max_memory_allocated() - before
    device = select_device("rocm" if torch.version.hip else "cuda")
    config = RunnerConfig(checkpoint=str(two_layers), device=device.name, **options)
    workspace = device.memory_needs(config, read_model_config(two_layers)).workspace
    planned = runner.info.weight_bytes + runner.info.kv_cache_bytes
    assert planned < peak <= planned + workspace
