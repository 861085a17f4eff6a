"""Bits that do not depend on company: ops one by one, and whole steps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from glmserve.config import RunnerConfig, report_nothing
from glmserve.contract.step import Logprobs, SamplingInput, ScheduledSequence, ScoreInput, StepInput
from glmserve.devices.cpu import CpuDevice
from glmserve.ops.attention.batch_invariant import BatchInvariantAttention
from glmserve.ops.attention.kv_store import ExactStore
from glmserve.ops.cpu.batch_invariant_ops import BatchInvariantCpuOps
from glmserve.ops.cpu.native_ops import ACTIVATION_DTYPES, NativeCpuOps
from glmserve.ops.cpu.torch_ops import TorchCpuOps
from glmserve.runner.torch_runner import TorchRunner
from support.attention_steps import Case, run_step
from support.golden import PREFIXES, read_greedy
from support.native import native_library
from support.slow import slow

CPU = torch.device("cpu")
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def make(case: Case) -> BatchInvariantAttention:
    return BatchInvariantAttention(case.kv_heads, CPU, case.block_size, ExactStore(case.dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sequences", [[(0, 9)], [(5, 9), (70, 1), (0, 3), (2, 1), (64, 70)]])
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 2), (3, 3)])
def test_attention(
    dtype: torch.dtype, sequences: list[tuple[int, int]], heads: int, kv_heads: int
) -> None:
    got, want = run_step(Case(sequences, heads, kv_heads, dtype=dtype), make)
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(got.double(), want, rtol=0, atol=tolerance)


def test_contexts_seen_by_all() -> None:
    case = Case([(0, 90), (70, 1), (0, 5), (67, 4)], contexts=[80, 66, 5, 64])
    got, want = run_step(case, make)
    torch.testing.assert_close(got.double(), want, rtol=0, atol=1e-5)


def make_operations(kernels: str, dtype: torch.dtype) -> TorchCpuOps:
    """Those of --deterministic with or without our own kernels."""
    if kernels == "torch":
        return BatchInvariantCpuOps(make(Case([])), dtype)
    if dtype not in ACTIVATION_DTYPES:
        pytest.skip("native kernels compute in float32 and bfloat16")
    return NativeCpuOps(make(Case([])), dtype, native_library())


@pytest.fixture
def three_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kernels", ["native", "torch"])
@pytest.mark.parametrize("columns", [96, 2002])
def test_rows(dtype: torch.dtype, kernels: str, columns: int) -> None:
    """Rows that fill whole vectors, and rows enough of other sizes for several threads."""
    ops = make_operations(kernels, dtype)
    weight, norm = torch.randn(200, columns).to(dtype), torch.randn(columns).to(dtype)
    x = torch.randn(70, columns).to(dtype)
    with torch.inference_mode():
        packed = ops.pack_linear(weight.clone())
        for work in (
            lambda rows: ops.linear(rows, packed, None),
            lambda rows: ops.rms_norm(rows, norm, 1e-5),
            lambda rows: ops.add_rms_norm(rows, rows.clone(), norm, 1e-5),
            lambda rows: ops.layer_norm(rows, norm, norm, 1e-5),
            lambda rows: ops.silu_and_mul(rows.clone()),
            ops.gelu,
        ):
            together = work(x)
            for first, last in ((0, 1), (3, 5), (17, 40), (69, 70)):
                assert torch.equal(work(x[first:last]), together[first:last])


def make_runner(kernels: str, **options: Any) -> TorchRunner:
    """With --deterministic, on our own kernels or on torch's."""
    if kernels == "native":
        native_library()
    config = RunnerConfig(
        cpu_kernels=kernels,  # type: ignore[arg-type]
        kv_cache_tokens=2048,
        deterministic=True,
        **options,
    )
    return CpuDevice().create_runner(config, report_nothing)


@pytest.mark.parametrize("kernels", ["native", "torch"])
@pytest.mark.parametrize(
    ("base", "prefix"), [("glm1_base", None), ("glm1_base", "glm1_ptuning"), PREFIXES[1]]
)
def test_contexts_and_prefixes_do_not_depend_on_company(
    golden_models: Path, base: str, prefix: str | None, kernels: str
) -> None:
    """The same prompts and answers, alone and together: the same bits."""
    runner = make_runner(
        kernels,
        checkpoint=str(golden_models / base),
        ptuning_checkpoint=prefix and str(golden_models / prefix),
        dtype="float32",
    )
    prompts, answers = read_greedy(golden_models / (prefix or base))
    texts = [(p, a[:4]) for p, a in zip(prompts, answers, strict=True)]

    def read(texts: list[tuple[list[int], list[int]]]) -> list[list[Logprobs | None]]:
        """What is said of each next token, prompts in one step and then token by token."""
        found, marks = [], runner.info.limits.prompt_marks
        tables = [np.arange(8 * i, 8 * i + 8, dtype=np.int32).tobytes() for i in range(len(texts))]
        for step in range(5):
            sequences = [
                ScheduledSequence(
                    i,
                    answer[step - 1 : step] if step else prompt,
                    len(prompt) + step - 1 if step else 0,
                    tables[i],
                    SamplingInput(top_logprobs=3),
                    layout=marks.layout(prompt) if marks else None,
                )
                for i, (prompt, answer) in enumerate(texts)
            ]
            found.append(runner.execute(StepInput(step, sequences)).logprobs)
        return [list(row) for row in zip(*found, strict=True)]

    assert read(texts) == [read([text])[0] for text in texts]


QUANTIZED = [
    ("native", dtype, quantization)
    for dtype in ("float32", "bfloat16")
    for quantization in ("int8", "int4", "w8a8", "w4a8")
] + [("torch", "float32", "int4"), ("torch", "bfloat16", "int8"), ("torch", "bfloat16", "w8a8")]


@pytest.mark.parametrize(("kernels", "dtype", "quantization"), QUANTIZED)
def test_quantized_weights_do_not_depend_on_company_or_chunks(
    golden_models: Path, kernels: str, dtype: str, quantization: str
) -> None:
    check_company_and_chunks(
        make_runner(
            kernels,
            checkpoint=str(golden_models / "glm2_base"),
            dtype=dtype,
            quantization=quantization,
        )
    )


@pytest.mark.parametrize("name", ["glm2_base", "glm2_mha", "glm4_base"])
@pytest.mark.parametrize("kv_cache_dtype", ["auto", "int8"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kernels", ["native", slow("torch")])
def test_log_probabilities_do_not_depend_on_company_or_chunks(
    golden_models: Path, name: str, kv_cache_dtype: str, dtype: str, kernels: str
) -> None:
    check_company_and_chunks(
        make_runner(
            kernels,
            checkpoint=str(golden_models / name),
            dtype=dtype,
            kv_cache_dtype=kv_cache_dtype,
        )
    )


def check_company_and_chunks(runner: TorchRunner) -> None:
    """The same prompt whole, in chunks, token by token, alone, among others, after others."""
    ids = np.random.default_rng(0).integers(0, 100, 80).tolist()

    def read(chunk: int, companions: int) -> list[float]:
        found: list[float] = []
        for start in range(0, len(ids), chunk):
            part = ids[start : start + chunk]
            targets = ids[start + 1 : start + 1 + len(part)]
            table = np.arange(8 + companions, 16 + companions, dtype=np.int32).tobytes()
            asked = ScheduledSequence(0, part, start, table, None, ScoreInput(targets, 0))
            others = [
                ScheduledSequence(
                    i + 1,
                    [i + 1] * (1 + i % 3),
                    0,
                    np.array([40 + i], np.int32).tobytes(),
                    SamplingInput(),
                )
                for i in range(companions)
            ]
            step = StepInput(0, [*others[:1], asked, *others[1:]])
            found += [item.logprob for item in runner.execute(step).scores[0]]
        return found

    alone = read(len(ids), 0)
    assert len(alone) == len(ids) - 1
    for chunk, companions in ((80, 5), (7, 0), (1, 3), (33, 19), (80, 0)):
        assert read(chunk, companions) == alone
