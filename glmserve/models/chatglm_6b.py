"""The block of ChatGLM-6B, the first generation: `glm.py` with another residual and activation.

    n = norm(h);  a = dense(attention(qkv(n)));       h = alpha * n + a
    n = norm(h);  m = down(gelu(up));                 h = alpha * n + m

That its prompts are read in both directions, at pairs of positions, is in the inputs (see
PromptLayout); loading sorts the rows of its query_key_value so that the rotation is the one of
all models (see Placement).
"""

from __future__ import annotations

import math

from torch import Tensor

from glmserve.models.glm import Glm

_ALPHA = math.sqrt(2 * 28)
"""sqrt(2 * layers), which the original code fixes at ChatGLM-6B's 28, whatever num_layers is."""


class ChatGlm6B(Glm):
    """Weights and the forward pass over one step's batch."""

    def _residual(self, hidden: Tensor, normed: Tensor) -> Tensor:
        return normed * _ALPHA

    def _activate(self, gate_up: Tensor) -> Tensor:
        return self.ops.gelu(gate_up)
