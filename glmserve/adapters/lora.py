"""Settings of a LoRA adapter (Hu et al. 2021, https://arxiv.org/abs/2106.09685)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from glmserve.adapters.selection import Selection, of_module


@dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """What adapter_config.json says about an adapter of PEFT's type LORA.

    A module with weight W [out, in] and bias b computes x W^T + b + scale * x A^T B^T, where A is
    [rank, in] and B is [out, rank]. Modules are named as in the trained model.
    """

    folder: Path
    rank: int
    alpha: float
    rank_pattern: tuple[tuple[str, int], ...] = ()
    """Regular expressions of modules with another rank, see `of_module`."""
    alpha_pattern: tuple[tuple[str, float], ...] = ()
    """Regular expressions of modules with another alpha."""
    rank_stabilized: bool = False
    """The scale is alpha / sqrt(rank) (Kalajdzievski 2023, https://arxiv.org/abs/2312.03732)
    instead of alpha / rank."""
    magnitudes: bool = False
    """DoRA: each row of W + scale * B A is scaled to a learnt length (Liu et al. 2024,
    https://arxiv.org/abs/2402.09353)."""
    bias: Literal["none", "all", "lora_only"] = "none"
    """Which biases of the model were trained: none, all, or those of the changed modules."""
    bias_of_b: bool = False
    """B has a bias, which is scaled as B is."""
    selection: Selection
    base_model: str = ""
    """The name of the model that the adapter was trained on, for messages; empty: not known."""

    kind: Literal["lora"] = "lora"

    @property
    def largest_rank(self) -> int:
        """The largest rank that a module may have."""
        return max([self.rank, *(rank for _, rank in self.rank_pattern)])

    def rank_of(self, module: str) -> int:
        return of_module(self.rank_pattern, module, self.rank)

    def scale_of(self, module: str) -> float:
        """The factor of B A."""
        rank = self.rank_of(module)
        alpha = of_module(self.alpha_pattern, module, self.alpha)
        return alpha / (math.sqrt(rank) if self.rank_stabilized else rank)
