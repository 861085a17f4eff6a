"""Makes the goldens of LoRA adapters with the real PEFT.

    pip install peft transformers
    python tests/goldens/making/lora.py

PEFT changes the modules of `modules.py`, and transformers' own classes. Their logits with
the adapter become `reference_fp32.npz`. `modules.py` must first give the originals' logits.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import peft
import torch
import transformers
from modules import Chatglm, Chatglm6B
from safetensors.torch import load_file
from torch import Tensor, nn

FOLDER = Path(__file__).parents[1]
NEW_TOKENS = 8
ALL = ["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"]
HF = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_up_proj", "down_proj"]

Forward = Callable[[Tensor], Tensor]


class Adapter(NamedTuple):
    """An adapter to make."""

    base: str
    prompts: tuple[int, ...]
    """Which of the base's prompts."""
    settings: dict[str, Any]
    """Of PEFT's LoraConfig."""
    safetensors: bool = True


ADAPTERS = {
    "glm1_lora": Adapter(
        "glm1_base",
        (1, 4, 5),
        {"r": 4, "lora_alpha": 16, "target_modules": ALL, "layers_to_transform": [0, 13, 27]},
    ),
    "glm2_lora": Adapter(
        "glm2_base", (0, 2), {"r": 8, "lora_alpha": 32, "target_modules": ["query_key_value"]}
    ),
    "glm2_mha_lora": Adapter(
        "glm2_mha",
        (1, 2),
        {
            "r": 6,
            "lora_alpha": 12,
            "use_rslora": True,
            "target_modules": ALL,
            "rank_pattern": {r"layers\.1\.self_attention\.query_key_value": 3, "dense_h_to_4h": 9},
            "alpha_pattern": {"self_attention.dense": 5},
        },
    ),
    "glm3_lora": Adapter(
        "glm3_base_sharded_st",
        (1, 2),
        {"r": 5, "lora_alpha": 10, "target_modules": ALL, "bias": "all"},
        safetensors=False,
    ),
    "glm4_lora": Adapter(
        "glm4_base",
        (0, 1),
        {
            "r": 33,
            "lora_alpha": 33,
            "lora_bias": True,
            "target_modules": r".*\.(?:self_attention\.\w+|mlp\.dense_4h_to_h)",
            "exclude_modules": r".*layers\.2\..*",
        },
    ),
    "glm_hf_lora": Adapter(
        "glm_hf", (0, 1), {"r": 4, "lora_alpha": 8, "task_type": "CAUSAL_LM", "target_modules": HF}
    ),
    "glm4_0414_lora": Adapter(
        "glm4_0414",
        (0, 1),
        {"r": 3, "lora_alpha": 6, "task_type": "CAUSAL_LM", "target_modules": "all-linear"},
    ),
    "glm_hf_dora": Adapter(
        "glm_hf",
        (0, 1),
        {
            "r": 4,
            "lora_alpha": 8,
            "task_type": "CAUSAL_LM",
            "target_modules": HF,
            "use_dora": True,
        },
    ),
}


def main() -> None:
    make_hf_base()
    for name, adapter in ADAPTERS.items():
        make(name, adapter)


def make_hf_base() -> None:
    """transformers' own class with random weights, and its logits."""
    torch.manual_seed(5)
    config = transformers.GlmConfig(
        vocab_size=96,
        hidden_size=48,
        intermediate_size=72,
        num_hidden_layers=2,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=8,
        attention_bias=True,
        pad_token_id=0,
        eos_token_id=[1, 2],
        max_position_embeddings=128,
    )
    model = transformers.GlmForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            spread = parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 0.2
            parameter.copy_(torch.randn_like(parameter) * 1.5 * spread + (parameter.ndim == 1))
    folder = fresh("glm_hf")
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    prompts = [torch.randint(3, 96, (length,)) for length in (5, 19)]
    write_reference(folder, lambda ids: model(ids[None]).logits[0], prompts)


def make(name: str, adapter: Adapter) -> None:
    """One adapter, and what its model computes with it."""
    torch.manual_seed(sum(name.encode()))
    model, forward = load(FOLDER / adapter.base)
    check(FOLDER / adapter.base, forward)
    adapted = peft.get_peft_model(model, peft.LoraConfig(**adapter.settings)).eval()
    train(adapted)
    folder = fresh(name)
    adapted.save_pretrained(folder, safe_serialization=adapter.safetensors)
    tidy(folder, adapter.base)
    data = np.load(FOLDER / adapter.base / "reference_fp32.npz")
    prompts = [torch.from_numpy(data[f"ids_{i}"]).long() for i in adapter.prompts]
    write_reference(folder, forward, prompts)
    versions = {"peft": peft.__version__, "transformers": transformers.__version__}
    meta = {"base": adapter.base, "settings": adapter.settings, "versions": versions}
    (folder / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")


def load(folder: Path) -> tuple[nn.Module, Forward]:
    """The model of a checkpoint, and its logits [T, V] of one sequence [T]."""
    config = json.loads((folder / "config.json").read_text())
    if config["model_type"] in ("glm", "glm4"):
        kind = transformers.AutoModelForCausalLM
        hf = kind.from_pretrained(folder, dtype=torch.float32).eval()
        return hf, lambda ids: hf(ids[None]).logits[0]
    model = (Chatglm6B if "inner_hidden_size" in config else Chatglm)(config).eval()
    stored: dict[str, Tensor] = {}
    for path in folder.glob("*.safetensors"):
        stored |= load_file(path)
    wanted = model.state_dict().keys()
    model.load_state_dict({name: stored[name].float() for name in wanted})
    return model, model


@torch.no_grad()
def check(folder: Path, forward: Forward) -> None:
    """Check that the model computes the original's logits."""
    data = np.load(folder / "reference_fp32.npz")
    ids = torch.from_numpy(np.concatenate((data["ids_1"], data["greedy_1"]))).long()
    error = np.abs(forward(ids).numpy() - data["logits_1"]).max()
    assert error < 2e-4, f"{folder.name}: off by {error}"


@torch.no_grad()
def train(model: nn.Module) -> None:
    """Give all trained parameters random values that change the logits by about their own size."""
    for name, parameter in model.named_parameters():
        if "lora_magnitude" in name:
            parameter.mul_(1 + 0.2 * torch.randn_like(parameter))
        elif "lora_A" in name:
            parameter.copy_(torch.randn_like(parameter) * parameter.shape[-1] ** -0.5)
        elif "lora_B" in name:
            parameter.copy_(torch.randn_like(parameter) * 0.1)
        elif parameter.requires_grad:  # biases of the model
            parameter.add_(0.3 * torch.randn_like(parameter))


@torch.no_grad()
def write_reference(folder: Path, forward: Forward, prompts: list[Tensor]) -> None:
    """`reference_fp32.npz`, see README.md."""
    found: dict[str, np.ndarray] = {}
    for i, prompt in enumerate(prompts):
        ids = prompt
        for _ in range(NEW_TOKENS):
            ids = torch.cat((ids, forward(ids)[-1].argmax()[None]))
        found |= {
            f"ids_{i}": prompt.numpy().astype(np.int32),
            f"greedy_{i}": ids[len(prompt) :].numpy().astype(np.int32),
            f"logits_{i}": forward(ids).numpy().astype(np.float32),
        }
    np.savez_compressed(folder / "reference_fp32.npz", **found)


def tidy(folder: Path, base: str) -> None:
    """Leave out what tells of this machine: paths of folders."""
    (folder / "README.md").unlink()
    path = folder / "adapter_config.json"
    fields = {**json.loads(path.read_text()), "base_model_name_or_path": base}
    path.write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n")
    for file in folder.iterdir():
        file.chmod(0o644)


def fresh(name: str) -> Path:
    folder = FOLDER / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


if __name__ == "__main__":
    main()
