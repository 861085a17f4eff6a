"""What the original models compute from their checkpoints in tests/goldens."""

from __future__ import annotations

from pathlib import Path

import numpy as np

NAMES = [
    "glm2_base",
    "glm2_bin_sharded",
    "glm2_mha",
    "glm2_no_qkv_bias",
    "glm2_res_post_ln",
    "glm2_32k_interp",
    "glm3_32k_base",
    "glm3_base_sharded_st",
    "glm4_base",
    "glm4_0414",
    "glm2_int8",
    "glm2_int4",
]
FIRST_GENERATION = ["glm1_base", "glm1_int8"]
"""Their prompts are computed whole."""

PREFIXES = [
    ("glm1_base", "glm1_ptuning"),
    ("glm2_base", "glm2_ptuning"),
    ("glm2_base", "glm2_ptuning_proj"),
]
"""A model, and a P-Tuning v2 prefix for it."""

ATOL = 5e-4  # the original in float32 is itself 1e-5 ... 8e-5 away from float64


def read_logits(folder: Path) -> list[tuple[list[int], np.ndarray]]:
    """Prompt and continuation of each sequence, and the original's logits."""
    data = np.load(folder / "reference_fp32.npz")
    return [
        ([*data[f"ids_{i}"].tolist(), *data[f"greedy_{i}"].tolist()], data[f"logits_{i}"])
        for i in range(_count(data))
    ]


def read_greedy(folder: Path) -> tuple[list[list[int]], list[list[int]]]:
    """Prompts, and the original's greedy continuations."""
    data = np.load(folder / "reference_fp32.npz")
    return (
        [data[f"ids_{i}"].tolist() for i in range(_count(data))],
        [data[f"greedy_{i}"].tolist() for i in range(_count(data))],
    )


def _count(data: object) -> int:
    return sum(name.startswith("ids_") for name in data)  # type: ignore[attr-defined]
