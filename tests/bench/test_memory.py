"""The benchmark of memory: the checkpoints it writes, and what it sees of processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import chatglm2_checkpoint
from chatglm2_checkpoint import CONFIG, Layout, write_checkpoint
from glmserve.config import RunnerConfig, report_nothing
from glmserve.contract.step import SamplingInput, ScheduledSequence, StepInput
from glmserve.devices.cpu import CpuDevice
from glmserve.models.checkpoint_files import weight_files
from memory import Peak

SMALL = {
    "ffn_hidden_size": 96,
    "hidden_size": 64,
    "kv_channels": 16,
    "num_attention_heads": 4,
    "num_layers": 2,
    "padded_vocab_size": 128,
    "seq_length": 256,
}
LINEAR_WEIGHTS = 2 * 64 * (128 + 64 + 2 * 96 + 96)
EMBEDDINGS = 2 * 128 * 64


@pytest.mark.parametrize("as_bin", [False, True])
@pytest.mark.parametrize(("layout", "bits"), [("float16", 16), ("int8", 8), ("int4", 4)])
def test_checkpoints_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: Layout, bits: int, as_bin: bool
) -> None:
    monkeypatch.setattr(chatglm2_checkpoint, "CONFIG", {**CONFIG, **SMALL})
    folder = tmp_path / "checkpoint"
    write_checkpoint(folder, layout, 40_000, as_bin=as_bin)
    assert len(weight_files(folder)) > 1
    config = RunnerConfig(checkpoint=str(folder), device="cpu", dtype="float32")
    runner = CpuDevice().create_runner(config, report_nothing)
    step = StepInput(5, [ScheduledSequence(0, [1, 2, 9], 0, bytes(4), SamplingInput())])
    assert runner.execute(step).token_ids[0] >= 0  # INVALID_TOKEN_ID is less
    if not as_bin:
        files = sum(path.stat().st_size for path in weight_files(folder))
        least = LINEAR_WEIGHTS * bits // 8 + 2 * EMBEDDINGS
        assert least < files < least + 10_000  # scales, norms and headers


def test_a_peak_is_remembered() -> None:
    code = "block = b'x' * 2**25; print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        peak = Peak(process.pid)
        with peak.watching():
            process.stdout.readline()
        assert peak.memory.total > peak.memory.anonymous > 2**25
        highest = peak.memory
        process.kill()
    peak.look()  # of a process that has ended
    assert peak.memory == highest
