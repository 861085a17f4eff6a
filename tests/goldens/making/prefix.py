"""Makes the goldens of prefix tuning with the real PEFT, on transformers' own classes.

    pip install peft transformers
    python tests/goldens/making/prefix.py

The models are those of `glm_hf` and `glm4_0414`. The folders are as PEFT saves them, with and
without a projection; `reference_fp32.npz` has the logits of PEFT's model after it has loaded them.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import peft
import torch
import transformers
from torch import Tensor

FOLDER = Path(__file__).parents[1]
NEW_TOKENS = 8
PROMPTS = (0, 1)


class Prefix(NamedTuple):
    """A prefix to make."""

    base: str
    settings: dict[str, Any]
    """Of PEFT's PrefixTuningConfig."""


PREFIXES = {
    "glm_hf_prefix": Prefix("glm_hf", {"num_virtual_tokens": 11}),
    "glm_hf_prefix_proj": Prefix(
        "glm_hf",
        {"num_virtual_tokens": 20, "prefix_projection": True, "encoder_hidden_size": 24},
    ),
    "glm4_0414_prefix": Prefix("glm4_0414", {"num_virtual_tokens": 7}),
}


def main() -> None:
    for name, prefix in PREFIXES.items():
        make(name, FOLDER / prefix.base, prefix.settings)


def load(folder: Path) -> Any:
    """A checkpoint in transformers' own class."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model.eval()


@torch.no_grad()
def make(name: str, base: Path, settings: dict[str, Any]) -> None:
    """One prefix, and what its model computes with it."""
    torch.manual_seed(sum(name.encode()))
    config = peft.PrefixTuningConfig(task_type="CAUSAL_LM", **settings)
    model = peft.get_peft_model(load(base), config).eval()
    for parameter in model.prompt_encoder.parameters():
        parameter.copy_(torch.randn_like(parameter) * 0.8)
    folder = FOLDER / name
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    saved = folder / "adapter_config.json"
    fields = json.loads(saved.read_text())
    fields["base_model_name_or_path"] = base.name
    saved.write_text(json.dumps(fields, indent=1) + "\n")
    loaded = peft.PeftModel.from_pretrained(load(base), folder).eval()
    data = np.load(base / "reference_fp32.npz")
    found: dict[str, np.ndarray] = {}
    for number, prompt in enumerate(PROMPTS):
        ids = torch.from_numpy(data[f"ids_{prompt}"]).long()
        greedy = continued(loaded, ids)
        whole = torch.cat((ids, greedy))[None]
        logits = loaded(whole).logits[0]
        plain = load(base)(whole).logits[0]
        assert (logits - plain).abs().max() > 0.1, "the prefix changes nothing"
        found |= {
            f"ids_{number}": ids.numpy().astype(np.int32),
            f"greedy_{number}": greedy.numpy().astype(np.int32),
            f"logits_{number}": logits.numpy(),
        }
    np.savez_compressed(folder / "reference_fp32.npz", **found)
    versions = {"peft": peft.__version__, "transformers": transformers.__version__}
    meta = {"base": base.name, "settings": settings, "versions": versions}
    (folder / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")


def continued(model: peft.PeftModel, ids: Tensor) -> Tensor:
    """The greedy continuation, each token from the whole sequence.

    PEFT 0.21's `generate` gives transformers 5 two caches, and the one without the prefix is used.
    """
    whole = ids
    for _ in range(NEW_TOKENS):
        whole = torch.cat((whole, model(whole[None]).logits[0, -1].argmax()[None]))
    return whole[len(ids) :]


if __name__ == "__main__":
    main()
