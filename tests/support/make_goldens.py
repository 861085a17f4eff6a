"""Makes the goldens that come from classes of transformers: tests/goldens/glm4_0414.

    python -m support.make_goldens tests/goldens

Run it in tests/, with transformers installed. Weights are random, by seed; what transformers
computes from them is stored beside them, in the form that tests/goldens/README.md describes.
"""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

_SEED = 414
_LENGTHS = (3, 17, 65)
_NEW_TOKENS = 32

GLM4_0414: dict[str, Any] = {
    "vocab_size": 352,
    "hidden_size": 96,
    "intermediate_size": 240,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "attention_bias": False,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "pad_token_id": 0,
    "eos_token_id": [349, 350, 351],
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 10000.0,
        "partial_rotary_factor": 0.5,
    },
}
"""GLM-4-9B-0414 in miniature."""


def random_model(kind: Any, config: Any, seed: int) -> Any:
    """A model whose every part moves the logits. The initial deviation of transformers, 0.02, hides
    mistakes."""
    torch.manual_seed(seed)
    model = kind(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            is_matrix = parameter.ndim > 1
            spread = 1.5 * parameter.shape[-1] ** -0.5 if is_matrix else 0.3
            drawn = torch.randn_like(parameter) * spread + (not is_matrix)
            parameter.copy_(drawn.bfloat16())
    return model


@torch.inference_mode()
def logits(model: Any, ids: list[int]) -> torch.Tensor:
    """[len(ids), V]"""
    found: torch.Tensor = model(torch.tensor([ids])).logits[0]
    return found


def greedy(model: Any, prompt: list[int], count: int) -> tuple[list[int], float]:
    """The most likely tokens, ends included, and the smallest lead over the next ones."""
    ids, margin = list(prompt), float("inf")
    for _ in range(count):
        best = logits(model, ids)[-1].topk(2)
        margin = min(margin, float(best.values[0] - best.values[1]))
        ids.append(int(best.indices[0]))
    return ids[len(prompt) :], margin


def main(target: Path) -> None:
    """Write the goldens."""
    folder = target / "glm4_0414"
    config = transformers.Glm4Config(**GLM4_0414)
    model = random_model(transformers.Glm4ForCausalLM, config, _SEED)
    # A cast of the model would round its frequencies as well.
    copy.deepcopy(model).to(torch.bfloat16).save_pretrained(folder)
    half = transformers.Glm4ForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    double = copy.deepcopy(model).double()
    (folder / "generation_config.json").unlink(missing_ok=True)
    rng = np.random.default_rng(_SEED)
    found: dict[str, np.ndarray] = {}
    bfloat16: dict[str, np.ndarray] = {}
    margins, error = [], 0.0
    for i, length in enumerate(_LENGTHS):
        prompt = rng.integers(0, GLM4_0414["vocab_size"], length).tolist()
        answer, margin = greedy(model, prompt, _NEW_TOKENS)
        margins.append(margin)
        single = logits(model, [*prompt, *answer])
        error = max(error, float((single - logits(double, [*prompt, *answer])).abs().max()))
        found[f"ids_{i}"] = np.array(prompt, np.int32)
        found[f"greedy_{i}"] = np.array(answer, np.int32)
        found[f"logits_{i}"] = single.numpy()
        bits = logits(half, [*prompt, *answer]).view(torch.int16)
        bfloat16[f"logits_{i}"] = bits.numpy().view(np.uint16)
    np.savez_compressed(folder / "reference_fp32.npz", **found)
    np.savez_compressed(folder / "reference_bf16.npz", **bfloat16)
    meta = {
        "variant": "glm4_0414",
        "reference": "transformers.Glm4ForCausalLM",
        "seed": _SEED,
        "weights_dtype": "bfloat16",
        "prompt_lengths": list(_LENGTHS),
        "new_tokens": _NEW_TOKENS,
        "min_greedy_margin": min(margins),
        "max_abs_err_fp32_vs_fp64": error,
        "versions": {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "numpy": np.__version__,
        },
        "note": "GLM-4-9B-0414 in miniature: sandwich norms, -hf names",
    }
    (folder / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
