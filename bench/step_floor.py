"""The least time that a step of a model can take on a device with measured ceilings.

Two phases follow one another, each as long as the larger of its bytes and its arithmetic (the
roofline model, see gpu_ceilings.floor_seconds): matrix products, which read every weight once, and
attention, which reads the keys and values of every context once. Norms, rotation, activations and
launches are not counted, so no server reaches it. `weight_bytes` is that of the layers: an output
layer keeps 8 bits, also where they have 4.
"""

from __future__ import annotations

from typing import NamedTuple

from gpu_ceilings import Ceilings, floor_seconds

_LEAST_HEAD_BYTES = 1.0


class Shape(NamedTuple):
    """A decoder with gated feed-forward layers and grouped keys, as in the ChatGLM family."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int

    @property
    def layer_parameters(self) -> int:
        """Of all layers' matrices: QKV, output, gate and up, down."""
        attention = (2 * self.heads + 2 * self.kv_heads) * self.head_dim
        return self.layers * self.hidden * (attention + 3 * self.ffn)

    @property
    def head_parameters(self) -> int:
        """Of the output layer."""
        return self.hidden * self.vocab

    def head_bytes(self, weight_bytes: float) -> float:
        """Of the output layer, if one number of the layers has `weight_bytes`."""
        return self.head_parameters * max(weight_bytes, _LEAST_HEAD_BYTES)

    @property
    def token_numbers(self) -> int:
        """Numbers of K and V that one token has in all layers."""
        return 2 * self.layers * self.kv_heads * self.head_dim

    @property
    def pair_flops(self) -> int:
        """Of one token's attention to one position: two products in each head and layer."""
        return 4 * self.layers * self.heads * self.head_dim


SHAPES = {
    "tiny": Shape(6, 192, 6, 2, 32, 512, 2560),
    "S": Shape(12, 768, 12, 2, 64, 2048, 65024),
    "M": Shape(16, 2048, 16, 2, 128, 5632, 65024),
    "chatglm2-6b": Shape(28, 4096, 32, 2, 128, 13696, 65024),
}
"""The shapes that benchmarks run, by name."""


def decode_seconds(
    shape: Shape, batch: int, context: int, ceilings: Ceilings, weight_bytes: float = 2
) -> float:
    """One token for each of `batch` sequences of `context` tokens; K and V of 16 bits."""
    num_bytes = int(shape.layer_parameters * weight_bytes + shape.head_bytes(weight_bytes))
    parameters = shape.layer_parameters + shape.head_parameters
    products, _ = floor_seconds(num_bytes, 2 * batch * parameters, ceilings)
    positions = batch * context
    attention, _ = floor_seconds(
        2 * positions * shape.token_numbers, positions * shape.pair_flops, ceilings
    )
    return products + attention


def prefill_seconds(
    shape: Shape, prompts: int, tokens: int, ceilings: Ceilings, weight_bytes: float = 2
) -> float:
    """`prompts` prompts of `tokens` each, and the first token of each answer."""
    layers, _ = floor_seconds(
        int(weight_bytes * shape.layer_parameters),
        2 * prompts * tokens * shape.layer_parameters,
        ceilings,
    )
    head, _ = floor_seconds(
        int(shape.head_bytes(weight_bytes)), 2 * prompts * shape.head_parameters, ceilings
    )
    pairs = prompts * tokens * (tokens + 1) // 2
    attention, _ = floor_seconds(
        2 * prompts * tokens * shape.token_numbers, pairs * shape.pair_flops, ceilings
    )
    return layers + head + attention


def request_seconds(
    shape: Shape,
    batch: int,
    prompt: int,
    output: int,
    ceilings: Ceilings,
    weight_bytes: float = 2,
) -> float:
    """`batch` equal requests at once, from the first prompt to the last token."""
    # The floor of a step is linear in the context wherever memory bounds its attention: always.
    step = decode_seconds(shape, batch, prompt + output // 2, ceilings, weight_bytes)
    prefill = prefill_seconds(shape, batch, prompt, ceilings, weight_bytes)
    return prefill + (output - 1) * step
