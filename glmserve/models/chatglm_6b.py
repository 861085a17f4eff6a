"""The block of ChatGLM-6B, the first generation: `glm.py` with another residual and activation.

    n = norm(h);  a = dense(attention(qkv(n)));       h = alpha * n + a
    n = norm(h);  m = down(gelu(up));                 h = alpha * n + m

Its prompts are read in both directions, at pairs of positions; the inputs say so (see
PromptLayout). Loading reorders the rows of its query_key_value, so that the rotation is that of all
models (see Placement).
"""

from __future__ import annotations

import math

from torch import Tensor

from glmserve.models.glm import Glm
from glmserve.ops.attention.backend import Cache, Plan

_ALPHA = math.sqrt(2 * 28)
"""sqrt(2 * layers). The original code uses ChatGLM-6B's 28 layers for any num_layers."""


class ChatGlm6B(Glm[Cache, Plan]):
    """Weights and the forward pass over one step's batch; see build_model for its arguments."""

    def _residual(self, hidden: Tensor, normed: Tensor) -> Tensor:
        return normed * _ALPHA

    def _activate(self, gate_up: Tensor) -> Tensor:
        return self.ops.gelu(gate_up)
