"""What LoRA adapters cost in a batch: decode steps with and without them, in turn.

    python bench/adapter_cost.py --shape M --batch 16 --adapters 8 --rank 8

One model with random weights. The sequences of a batch share the adapters evenly; these change all
linear modules of the layers. Steps go without, with, without, with, so that ratios hold on a
machine whose speed drifts.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch
from safetensors.torch import save_file

from glmserve.adapters import digest
from glmserve.config import RunnerConfig, report_nothing
from glmserve.contract.adapter import NO_ADAPTER, AdapterSource
from glmserve.contract.step import SamplingInput, ScheduledSequence, StepInput
from glmserve.devices.cpu import CpuDevice
from glmserve.model_config import ModelConfig, read_model_config
from glmserve.models.names import placements
from glmserve.runner.torch_runner import TorchRunner
from step_floor import SHAPES, Shape

_TARGETS = ("query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", choices=SHAPES, default="M")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--adapters", type=int, default=8)
    parser.add_argument("--rank", type=int, nargs="+", default=[8])
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--quantization", default=None)
    parser.add_argument("--steps", type=int, default=20, help="of each kind")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = write_config(Path(folder) / "model", SHAPES[options.shape])
        model = read_model_config(checkpoint, None)
        runner = load(options, checkpoint)
        print(f"shape {options.shape}, {runner.info.device}, {runner.info.dtype}", flush=True)
        for rank in options.rank:
            ids = list(range(1, options.adapters + 1))
            for adapter in ids:
                place = write_adapter(Path(folder) / f"{rank}-{adapter}", model, rank, adapter)
                runner.read_adapter(AdapterSource(adapter, str(place), digest(place)))()
            without, with_them = (compare(options, runner, given) for given in ([NO_ADAPTER], ids))
            pairs = [(without(), with_them()) for _ in range(options.steps + 2)][2:]
            ratio = median(plain / adapted for plain, adapted in pairs)
            plain, adapted = (1000 * min(times) for times in zip(*pairs, strict=True))
            print(
                f"rank {rank}: {ratio:.3f} of the tokens per second with {len(ids)} adapters in a "
                f"batch of {options.batch}; {plain / adapted:.3f} by the fastest steps, of "
                f"{plain:.1f} and {adapted:.1f} ms",
                flush=True,
            )
            for adapter in ids:
                runner.remove_adapter(adapter)


def compare(
    options: argparse.Namespace, runner: TorchRunner, adapters: list[int]
) -> Callable[[], float]:
    """A function that computes a decode step, and returns the seconds that it took.

    Args:
        adapters: the sequences have them in turn.
    """
    blocks = -(-options.context // runner.info.limits.block_size)
    sequences = [
        ScheduledSequence(
            row,
            [row + 5],
            options.context - 1,
            np.arange(row * blocks, (row + 1) * blocks, dtype=np.int32).tobytes(),
            SamplingInput(),
            adapter_id=adapters[row % len(adapters)],
        )
        for row in range(options.batch)
    ]

    def step() -> float:
        start = time.perf_counter()
        runner.execute(StepInput(0, sequences))
        return time.perf_counter() - start

    return step


def load(options: argparse.Namespace, checkpoint: Path) -> TorchRunner:
    return CpuDevice().create_runner(
        RunnerConfig(
            checkpoint=str(checkpoint),
            device="cpu",
            load_format="dummy",
            dtype=options.dtype,
            quantization=options.quantization,
            max_batch_size=options.batch,
            kv_cache_tokens=options.batch * (options.context + 64),
            max_model_len=options.context + 32,
            max_adapters=options.adapters,
            max_lora_rank=max(options.rank),
        ),
        report_nothing,
    )


def write_config(folder: Path, shape: Shape) -> Path:
    """config.json of a model of the second generation."""
    fields = {
        "_name_or_path": "THUDM/chatglm3-6b",
        "model_type": "chatglm",
        "add_bias_linear": False,
        "add_qkv_bias": True,
        "ffn_hidden_size": shape.ffn,
        "hidden_size": shape.hidden,
        "kv_channels": shape.head_dim,
        "layernorm_epsilon": 1e-5,
        "multi_query_attention": True,
        "multi_query_group_num": shape.kv_heads,
        "num_attention_heads": shape.heads,
        "num_layers": shape.layers,
        "padded_vocab_size": shape.vocab,
        "seq_length": 8192,
        "torch_dtype": "bfloat16",
    }
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(fields))
    return folder


def write_adapter(folder: Path, model: ModelConfig, rank: int, seed: int) -> Path:
    """An adapter of all linear modules, with random numbers."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, placement in placements(model).items():
        module = name.removesuffix(".weight")
        if module.endswith(_TARGETS) and name.endswith(".weight"):
            rows, columns = placement.shape
            a = torch.randn(rank, columns, generator=generator) * columns**-0.5
            b = torch.randn(rows, rank, generator=generator) * 0.01
            start = f"base_model.model.{module}.lora_"
            tensors |= {f"{start}A.weight": a.bfloat16(), f"{start}B.weight": b.bfloat16()}
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    fields = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": _TARGETS}
    (folder / "adapter_config.json").write_text(json.dumps(fields))
    return folder


if __name__ == "__main__":
    main()
