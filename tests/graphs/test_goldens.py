"""What the original models compute, through every form of compiled graphs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from glmserve.config import GraphAttention, GraphTarget
from glmserve.contract.step import Runner, ScheduledSequence, ScoreInput, StepInput
from glmserve.errors import DeviceError
from support.compiled import FORMS, compile_model, load_compiled
from support.decoding import Decoding, run_step
from support.golden import NAMES, PREFIXES, read_greedy, read_logits
from support.slow import slow

LOGPROB_ATOL = 1e-3  # of the goldens, see tests/goldens/README.md


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("runtime", "attention"), [slow(*FORMS[0]), FORMS[1], slow(*FORMS[2]), FORMS[3]]
)
def test_greedy_text_of_the_original(
    golden_models: Path,
    tmp_path: Path,
    name: str,
    runtime: GraphTarget,
    attention: GraphAttention,
) -> None:
    """All together over permuted blocks, and one by one in chunks."""
    folder = golden_models / name
    compiled = compile_model(folder, tmp_path / "c", runtime, attention, dtype="float32")
    runner = load_compiled(compiled)
    room = 0 if attention == "lanes" else 40
    prompts, want = read_greedy(folder)
    assert Decoding(runner, prompts, room).outputs(len(want[0])) == want
    for prompt, expected in zip(prompts, want, strict=True):
        assert Decoding(runner, [prompt], room).outputs(len(expected), 7) == [expected]


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(
    ("parts", "strategy", "memory"), [(2, "loose", None), (3, "greedy", 2**22), (4, "equal", None)]
)
def test_a_pipeline_of_devices(
    golden_models: Path,
    tmp_path: Path,
    runtime: GraphTarget,
    parts: int,
    strategy: str,
    memory: int | None,
) -> None:
    options = {"split": parts, "split_strategy": strategy, "device_memory": memory}
    folder = golden_models / "glm4_base"
    compiled = compile_model(folder, tmp_path / "c", runtime, "lanes", dtype="float32", **options)
    prompts, want = read_greedy(folder)
    device = f"{runtime}:{','.join(['CPU'] * parts)}"
    runner = load_compiled(compiled, device=device)
    assert Decoding(runner, prompts, 0).outputs(len(want[0]), 7) == want
    assert scores(runner, prompts[-1], 500)


@pytest.mark.parametrize(("base", "prefix"), PREFIXES[1:])
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_prefix(
    golden_models: Path, tmp_path: Path, base: str, prefix: str, runtime: GraphTarget
) -> None:
    options = {"ptuning_checkpoint": str(golden_models / prefix), "dtype": "float32"}
    folder = compile_model(golden_models / base, tmp_path / "c", runtime, "lanes", **options)
    prompts, want = read_greedy(golden_models / prefix)
    assert Decoding(load_compiled(folder), prompts, 0).outputs(len(want[0]), 7) == want


@pytest.mark.parametrize("name", ["glm2_mha", "glm2_int4", slow("glm2_base"), slow("glm4_base")])
@pytest.mark.parametrize(("runtime", "attention"), FORMS)
@pytest.mark.parametrize("chunk", [7])
def test_log_probabilities_of_the_original(
    golden_models: Path,
    tmp_path: Path,
    name: str,
    runtime: GraphTarget,
    attention: GraphAttention,
    chunk: int,
) -> None:
    folder = golden_models / name
    compiled = compile_model(folder, tmp_path / "c", runtime, attention, dtype="float32")
    runner = load_compiled(compiled)
    for ids, logits in read_logits(folder):
        got = scores(runner, ids, chunk)
        np.testing.assert_allclose(got, reference(ids, logits), rtol=0, atol=LOGPROB_ATOL)


def scores(runner: Runner, ids: list[int], chunk: int) -> list[float]:
    """Log-probabilities of ids[1:], read in chunks."""
    size = runner.info.limits.block_size
    table = np.arange(-(-len(ids) // size), dtype=np.int32)[::-1].tobytes()
    found = []
    for start in range(0, len(ids) - 1, chunk):
        part = ids[start : start + chunk]
        targets = ids[start + 1 : start + 1 + len(part)]
        sequence = ScheduledSequence(0, part, start, table, None, score=ScoreInput(targets, 0))
        output = run_step(runner, StepInput(1, [sequence]))
        found += [logprobs.logprob for logprobs in output.scores[0]]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", ["glm2_base", "glm4_base"])
@pytest.mark.parametrize(
    ("runtime", "attention", "dtype"),
    [
        ("onnx", "lanes", "float16"),
        ("onnxruntime", "lanes", "float16"),
        ("openvino", "lanes", "bfloat16"),
        ("openvino", "paged", "bfloat16"),
    ],
)
def test_16_bits(
    golden_models: Path,
    tmp_path: Path,
    name: str,
    runtime: GraphTarget,
    attention: GraphAttention,
    dtype: str,
) -> None:
    folder = golden_models / name
    compiled = compile_model(folder, tmp_path / "c", runtime, attention, dtype=dtype)
    try:
        runner = load_compiled(compiled)
    except DeviceError as error:
        pytest.skip(f"this CPU computes otherwise: {error}")
    errors = [
        np.abs(np.array(scores(runner, ids, 500)) - reference(ids, logits))
        for ids, logits in read_logits(folder)
    ]
    assert 1e-5 < np.concatenate(errors).mean() < 0.1


def reference(ids: list[int], logits: np.ndarray) -> np.ndarray:
    """Log-probabilities of ids[1:] by the original's logits."""
    shifted = logits - logits.max(-1, keepdims=True)
    rows = shifted - np.log(np.exp(shifted).sum(-1))[:, None]
    return rows[np.arange(len(ids) - 1), ids[1:]]
