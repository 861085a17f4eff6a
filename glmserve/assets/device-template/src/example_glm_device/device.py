"""The device: what it needs, and how it loads a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from example_glm_device.operations import BLOCK_SIZE, make_ops
from glmserve.config import ReportProgress, RunnerConfig
from glmserve.devices.base import DeviceInfo
from glmserve.devices.host import available_memory
from glmserve.errors import OptionError
from glmserve.model_config import ModelConfig, read_model_config
from glmserve.models.parameters import count_parameters, weight_bytes
from glmserve.ops.attention.kv_store import make_store
from glmserve.runner.dtypes import DTYPES, dtype_name
from glmserve.runner.limits import CacheMemory, MemoryNeeds, step_bytes, step_tokens
from glmserve.runner.torch_runner import TorchRunner, TorchTarget, load_torch_runner

_DEVICE = torch.device("cpu")  # the torch device of your chip, such as "npu" or "xpu"
_STEP_TOKENS = 512
"""New tokens in one step, if no option says otherwise."""
_CACHE_SHARE = 0.5
"""Part of the memory beside the weights that the KV cache takes."""


class ExampleDevice:
    """A chip with a torch backend. It computes on the CPU here."""

    name = "example"

    def probe(self) -> DeviceInfo:
        # Ask the driver without initialising it: `glmserve doctor` asks every device.
        return DeviceInfo(True, "an example that computes on the CPU")

    def memory_needs(self, config: RunnerConfig, model: ModelConfig) -> MemoryNeeds:
        """Optional: lets `glmserve doctor` plan the memory."""
        dtype = _dtype(config, model)
        weights = weight_bytes(model, dtype.itemsize, None)
        tokens = step_tokens(config, model, _STEP_TOKENS)
        available = available_memory()
        head_bytes = make_store(config.kv_cache_dtype, dtype).head_bytes(model.head_dim)
        token_bytes = model.num_layers * 2 * model.num_kv_heads * head_bytes
        block_size = config.block_size or BLOCK_SIZE
        return MemoryNeeds(
            dtype=dtype_name(dtype),
            num_parameters=count_parameters(model),
            weights=weights,
            workspace=step_bytes(config, model, dtype.itemsize, tokens),
            available=available,
            cache=CacheMemory(available - weights, _CACHE_SHARE, token_bytes, block_size),
            max_step_tokens=tokens,
        )

    def create_runner(
        self, config: RunnerConfig, progress: ReportProgress
    ) -> TorchRunner[Any, Any]:
        """Load the model."""
        model = read_model_config(
            Path(config.checkpoint), config.rope_scaling, config.ptuning_checkpoint
        )
        dtype = _dtype(config, model)
        limits = self.memory_needs(config, model).plan(config, model)
        target = TorchTarget(
            device=_DEVICE,
            description="example",
            dtype=dtype,
            ops=make_ops(config, model, _DEVICE, dtype),
            quantization=None,
        )
        return load_torch_runner(config, model, target, limits, progress)


def _dtype(config: RunnerConfig, model: ModelConfig) -> torch.dtype:
    """The dtype of weights and activations.

    Raises:
        OptionError: an option is not supported.
    """
    if config.quantization is not None:
        raise OptionError(f"--quantization {config.quantization} is not supported by this device")
    name = config.dtype if config.dtype != "auto" else model.stored_dtype
    return DTYPES.get(name or "float32", torch.float32)
