"""A rank needs memory for its part of a model, and little more while it loads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from support.slow import slow
from support.tiny_models import BASE, stored_shapes

CONFIG = {
    **BASE,
    "hidden_size": 1024,
    "ffn_hidden_size": 2816,
    "num_layers": 8,
    "num_attention_heads": 16,
    "kv_channels": 64,
    "padded_vocab_size": 4096,
}

PROGRAM = """
import json, re, sys, threading
from pathlib import Path
import torch
from glmserve.config import RunnerConfig, report_nothing
from glmserve.contract.shard import Group, Shard, Stage
from glmserve.devices.cpu import _choose, _HOST
from glmserve.devices.host import large_blocks_apart
from glmserve.model_config import read_model_config
from glmserve.models.parameters import weight_bytes
from glmserve.ops.collectives import Alone
from glmserve.runner.torch_runner import TorchTarget, make_parameters

def anonymous():
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"RssAnon:\\s+(\\d+) kB", status)[1]) * 1024

class Rank(Alone):
    def __init__(self, shard):
        self.shard = shard

folder, numbers = sys.argv[1], [int(number) for number in sys.argv[2:]]
shard, stage = Shard(*numbers[:2]), Stage(*numbers[2:])
config = RunnerConfig(
    checkpoint=folder,
    dtype="float32",
    tensor_parallel_size=shard.size,
    pipeline_parallel_size=stage.size,
    group=Group(shard, "", stage),
)
model = read_model_config(Path(folder))
choice = _choose(config, model)
target = TorchTarget(
    _HOST, "", torch.float32, choice.ops, None, Rank(shard), choice.part
)
torch.set_num_threads(1)
before, peak, over = anonymous(), 0, threading.Event()

def watch():
    global peak
    while not over.wait(0.001):
        peak = max(peak, anonymous())

thread = threading.Thread(target=watch)
thread.start()
with torch.inference_mode(), large_blocks_apart():
    parameters = make_parameters(config, model, target, report_nothing)
over.set()
thread.join()
print(json.dumps({"peak": peak - before, "model": weight_bytes(model, 4, None)}))
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 400 MB."""
    folder = tmp_path_factory.mktemp("model")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    weights = {name: torch.zeros(shape) for name, shape in stored_shapes(CONFIG).items()}
    save_file(weights, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize(
    ("shard", "stage"),
    [
        ((1, 2), (0, 1)),
        slow((0, 4), (0, 1)),
        slow((0, 1), (0, 2)),
        slow((1, 2), (1, 2)),
    ],
)
@pytest.mark.slow
def test_a_tenth_more_than_its_part(
    checkpoint: Path, shard: tuple[int, int], stage: tuple[int, int]
) -> None:
    """The embedding is as large as the output layer, so both stages are equal."""
    if not Path("/proc/self/status").exists():
        pytest.skip("needs /proc")
    command = [sys.executable, "-c", PROGRAM, str(checkpoint), *map(str, (*shard, *stage))]
    found = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    part = found["model"] / shard[1] / stage[1]
    assert 0.9 * part < found["peak"] < 1.1 * part
