"""A checkpoint with int8 weights for vLLM: write_w8a8.py CHECKPOINT TARGET.

In the "int-quantized" format of compressed-tensors: a scale for each row of the layers' matrices,
activations quantised token by token; the output layer stays in bfloat16, as is usual there.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

_ROWS = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel", "dynamic": False}
_TOKENS = {**_ROWS, "strategy": "token", "dynamic": True}
_SETTINGS = {
    "quant_method": "compressed-tensors",
    "format": "int-quantized",
    "quantization_status": "compressed",
    "ignore": ["lm_head"],
    "config_groups": {
        "group_0": {"targets": ["Linear"], "weights": _ROWS, "input_activations": _TOKENS}
    },
}


def main() -> None:
    source, target = (Path(argument) for argument in sys.argv[1:])
    part = target.with_name(target.name + ".part")
    part.mkdir(parents=True, exist_ok=True)
    config = json.loads((source / "config.json").read_text())
    config["quantization_config"] = _SETTINGS
    (part / "config.json").write_text(json.dumps(config, indent=2))
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in load_file(source / "model.safetensors").items():
        if name.startswith("model.layers.") and tensor.ndim == 2:
            scale = tensor.float().abs().amax(1, keepdim=True) / 127
            tensors[name] = (tensor.float() / scale).round().to(torch.int8)
            tensors[f"{name}_scale"] = scale
        else:
            tensors[name] = tensor
    save_file(tensors, part / "model.safetensors")
    part.rename(target)


if __name__ == "__main__":
    main()
