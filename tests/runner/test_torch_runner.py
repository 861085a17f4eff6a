"""Steps in, tokens out: greedy text of the original models through TorchRunner."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from glmserve.config import LoadFormat, LoadProgress, RunnerConfig, report_nothing
from glmserve.contract.sampling import Sampling
from glmserve.contract.step import INVALID_TOKEN_ID, SamplingInput, ScheduledSequence, StepInput
from glmserve.devices.cpu import CpuDevice
from glmserve.ops.cpu.select_ops import native_kernels
from glmserve.runner.torch_runner import TorchRunner
from support.decoding import Decoding
from support.golden import FIRST_GENERATION, NAMES, PREFIXES, read_greedy
from support.native import native_library
from support.slow import slow
from support.tiny_models import BASE, random_weights, write_checkpoint


def load(checkpoint: Path, **options: Any) -> TorchRunner:
    options = {"dtype": "float32", "kv_cache_tokens": 2048, "threads": 1, **options}
    config = RunnerConfig(checkpoint=str(checkpoint), device="cpu", **options)
    return CpuDevice().create_runner(config, report_nothing)


@pytest.fixture(params=["native", "torch"])
def kernels(request: pytest.FixtureRequest) -> str:
    """What --cpu-kernels is to be."""
    if request.param == "native":
        native_library()
    return str(request.param)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("chunk", [slow(10_000), 7])
def test_greedy_text_of_the_original(
    golden_models: Path, name: str, chunk: int, kernels: str
) -> None:
    folder = golden_models / name
    prompts, want = read_greedy(folder)
    runner = load(folder, cpu_kernels=kernels)
    assert Decoding(runner, prompts, 64).outputs(len(want[0]), chunk) == want
    for prompt, expected in zip(prompts, want, strict=True):
        assert Decoding(runner, [prompt], 64).outputs(len(expected), chunk) == [expected]


@pytest.mark.parametrize("name", FIRST_GENERATION)
@pytest.mark.parametrize("deterministic", [False, slow(True)])
def test_greedy_text_of_whole_prompts(
    golden_models: Path, name: str, deterministic: bool, kernels: str
) -> None:
    prompts, want = read_greedy(golden_models / name)
    runner = load(golden_models / name, deterministic=deterministic, cpu_kernels=kernels)
    assert Decoding(runner, prompts, 64).outputs(len(want[0])) == want
    assert Decoding(runner, prompts[-1:], 64).outputs(len(want[-1])) == want[-1:]


@pytest.mark.parametrize(("base", "prefix"), PREFIXES)
@pytest.mark.parametrize("deterministic", [False, True])
def test_greedy_text_behind_a_prefix(
    golden_models: Path, base: str, prefix: str, deterministic: bool, kernels: str
) -> None:
    prompts, want = read_greedy(golden_models / prefix)
    runner = load(
        golden_models / base,
        ptuning_checkpoint=str(golden_models / prefix),
        deterministic=deterministic,
        cpu_kernels=kernels,
    )
    assert Decoding(runner, prompts, 64).outputs(len(want[0])) == want


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("model"), BASE, random_weights(BASE))


class TestInfo:
    def test_numbers(self, checkpoint: Path) -> None:
        info = load(checkpoint, threads=2).info
        assert info.num_parameters == sum(w.numel() for w in random_weights(BASE).values())
        assert info.weight_bytes == 4 * info.num_parameters
        assert info.limits.token_capacity == 2048
        assert info.limits.max_context == 256
        assert info.device.startswith("cpu (")
        assert ", 2 threads, " in info.device
        assert ", 1 thread, " in load(checkpoint).info.device

    def test_bytes_of_the_cache(self, checkpoint: Path) -> None:
        """2048 tokens, 2 layers, K and V of 2 heads of 8 numbers; native ones are padded to 32."""
        numbers = 2048 * 2 * 2 * 2
        assert load(checkpoint, cpu_kernels="torch").info.kv_cache_bytes == numbers * 8 * 4
        if native_kernels(RunnerConfig(checkpoint=str(checkpoint))).library:
            assert load(checkpoint).info.kv_cache_bytes == numbers * 32 * 4

    @pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
    def test_dtype(self, checkpoint: Path, dtype: str) -> None:
        runner = load(checkpoint, dtype=dtype)
        assert runner.info.dtype == dtype
        output = Decoding(runner, [[1, 2, 3], [4]], 8).outputs(4)
        assert all(0 <= t < 48 for tokens in output for t in tokens)

    @pytest.mark.parametrize("load_format", ["auto", "dummy"])
    def test_progress(self, checkpoint: Path, load_format: LoadFormat) -> None:
        calls: list[LoadProgress] = []
        config = RunnerConfig(
            checkpoint=str(checkpoint), load_format=load_format, kv_cache_tokens=512
        )
        runner = CpuDevice().create_runner(config, calls.append)
        assert calls[-1] == ("weights", runner.info.weight_bytes, runner.info.weight_bytes)


class TestSampling:
    def test_every_row_by_its_own_rules(self, checkpoint: Path) -> None:
        """Mixed sampling in one step gives what each request gets alone."""
        runner = load(checkpoint)
        prompts = [[5, 6, 7], [8, 9], [10], [11, 12, 13, 14]]
        rules = [
            SamplingInput(),
            SamplingInput(noise_key=7, sampling=Sampling(temperature=1.0)),
            SamplingInput(noise_key=2, sampling=Sampling(temperature=0.8, top_p=0.8, top_k=20)),
            SamplingInput(sampling=Sampling(logit_bias={3: 100.0})),
        ]
        together = Decoding(runner, prompts, 20)
        for _ in range(10):
            together.step(2, lambda i: rules[i])
        for i, prompt in enumerate(prompts):
            alone = Decoding(runner, [prompt], 20)
            while len(alone.tokens[0]) < len(together.tokens[i]):
                alone.step(100, lambda _, rule=rules[i]: rule)
            assert alone.tokens[0] == together.tokens[i]
        assert set(together.tokens[3][4:]) == {3}

    def test_nothing_to_sample(self, checkpoint: Path) -> None:
        runner = load(checkpoint)
        table = np.arange(4, dtype=np.int32).tobytes()
        for new in ([1, 2, 3], [4]):
            step = StepInput(3, [ScheduledSequence(0, new, 0, table, None)])
            output = runner.execute(step)
            assert (output.step_id, output.token_ids) == (3, [])

    def test_ids_that_are_no_token(self, checkpoint: Path) -> None:
        """What would have been chosen is not, greedily or sampled; only the rest is left."""
        allowed = {3, 7}
        runner = load(checkpoint, never_sampled=tuple(set(range(48)) - allowed))
        chosen = {t for tokens in Decoding(runner, [[1, 2, 3], [4]], 8).outputs(8) for t in tokens}
        assert chosen
        assert chosen <= allowed

    def test_vocab_limit(self, checkpoint: Path) -> None:
        runner = load(checkpoint, vocab_limit=5)
        output = Decoding(runner, [[1], [2], [3]], 40).outputs(30)
        assert all(t < 5 for tokens in output for t in tokens)

    def test_not_finite(self, tmp_path: Path, kernels: str) -> None:
        """A token whose embedding is NaN spoils its own request and no other."""
        weights = random_weights(BASE)
        weights["transformer.embedding.word_embeddings.weight"][40] = float("nan")
        runner = load(write_checkpoint(tmp_path, BASE, weights), cpu_kernels=kernels)
        sound = Decoding(runner, [[1, 2]], 8).outputs(1)
        mixed = Decoding(runner, [[1, 2], [1, 40, 2], [40]], 8)
        mixed.step(100)
        assert mixed.outputs(1) == [*sound, [INVALID_TOKEN_ID], [INVALID_TOKEN_ID]]
        # Its blocks are used again without a trace.
        again = Decoding(runner, [[40], [3], [1, 2]], 8)
        again.step(100)
        assert again.outputs(1)[2] == sound[0]


def test_text_does_not_depend_on_the_company(checkpoint: Path, kernels: str) -> None:
    runner = load(checkpoint, cpu_kernels=kernels)
    rng = np.random.default_rng(0)
    prompts = [rng.integers(0, 48, n).tolist() for n in (1, 5, 30, 17, 2, 64, 9)]
    together = Decoding(runner, prompts, 40).outputs(30, chunk=8)
    alone = [Decoding(runner, [p], 40).outputs(30)[0] for p in prompts]
    assert together == alone


def test_dummy_weights(checkpoint: Path) -> None:
    runners = [load(checkpoint, load_format="dummy", seed=seed) for seed in (1, 1, 2)]
    first, again, other = (Decoding(r, [[1, 2, 3]], 40).outputs(30) for r in runners)
    assert first == again != other
    assert len(set(first[0])) > 3


def test_closed(checkpoint: Path) -> None:
    runner = load(checkpoint)
    runner.close()
    with pytest.raises(RuntimeError, match="closed"):
        Decoding(runner, [[1]], 1).step(1)


def test_sixteen_layers_stay_finite(tmp_path: Path, kernels: str) -> None:
    """Dummy weights keep a deep model's logits in a usable range, in half precision too."""
    deep = {**BASE, "num_layers": 16, "apply_residual_connection_post_layernorm": True}
    write_checkpoint(tmp_path, deep, {"unused": torch.zeros(1)})
    in_half = ("bfloat16",) if kernels == "native" else ("float16", "bfloat16")
    for dtype in ("float32", *in_half):
        runner = load(tmp_path, load_format="dummy", dtype=dtype, cpu_kernels=kernels)
        assert INVALID_TOKEN_ID not in Decoding(runner, [[1, 2, 3]], 30).outputs(20)[0]
