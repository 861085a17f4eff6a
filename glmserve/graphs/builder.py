"""The operations from which a model's graph is built. An emitter implements them for one format.

T tokens, H hidden size, F ffn size. Values are activations [T, n].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

Value = TypeVar("Value")

Watch = Callable[[str, Value], None]
"""Gets the name and the value of a tensor of the model."""


def ignore(name: str, value: object) -> None:
    """A Watch that does nothing."""


class GraphBuilder(Protocol[Value]):
    """Adds operations to a graph. Modules have the canonical names of models/parameters.py."""

    def embedding(self, token_ids: Value) -> Value:
        """Rows of the embedding at the token ids [T]: [T, H]."""
        ...

    def linear(self, x: Value, module: str) -> Value:
        """x @ weight^T, and the module's bias if it has one."""
        ...

    def rms_norm(self, x: Value, module: str, eps: float) -> Value:
        """x / sqrt(mean(x^2) + eps) * weight, computed in float32 and rounded once."""
        ...

    def layer_norm(self, x: Value, module: str, eps: float) -> Value:
        """LayerNorm with weight and bias, computed in float32 and rounded once."""
        ...

    def silu_and_mul(self, x: Value) -> Value:
        """[T, 2F] to [T, F]: silu(first half) * second half."""
        ...

    def add(self, a: Value, b: Value) -> Value:
        """The sum of two values."""
        ...


class AttentionBuilder(Protocol[Value]):
    """Adds the attention of one graph over its KV cache, in whatever form the graph has it."""

    def attend(self, layer: int, qkv: Value) -> Value:
        """Rotate queries and keys, and attend to the cached and to the new tokens.

        Args:
            qkv: [T, (Hq + 2*Hkv) * D]: all query heads, all key heads, all value heads.

        Returns:
            [T, Hq*D]
        """
        ...
