"""Adapters of the command line are looked at before the model's weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from glmserve.errors import CheckpointError
from glmserve.model_config import read_model_config
from glmserve.models.adapter_check import check_adapters

FITTING = [
    ("glm1_base", "glm1_lora"),
    ("glm1_base", "glm1_ptuning"),
    ("glm2_base", "glm2_lora"),
    ("glm2_base", "glm2_ptuning_proj"),
    ("glm_hf", "glm_hf_lora"),
    ("glm_hf", "glm_hf_prefix"),
]


@pytest.mark.parametrize(("base", "name"), FITTING)
def test_what_fits(golden_models: Path, base: str, name: str) -> None:
    check_adapters([("a", str(golden_models / name))], read_model_config(golden_models / base))


@pytest.mark.parametrize(
    ("base", "name"),
    [
        ("glm2_base", "glm_hf_lora"),
        ("glm2_base", "glm_hf_prefix"),
        ("glm_hf", "glm_hf_dora"),
        ("glm_hf", "glm2_ptuning"),
        ("glm_hf", "nowhere"),
        ("glm_hf", "glm_hf"),
    ],
)
def test_what_does_not(golden_models: Path, base: str, name: str) -> None:
    adapters = [("fine", str(golden_models / "glm_hf_lora")), ("b", str(golden_models / name))]
    with pytest.raises(CheckpointError, match=r"--adapter b: "):
        check_adapters(adapters[base != "glm_hf" :], read_model_config(golden_models / base))
