"""The block of ChatGLM2, ChatGLM3, CodeGeeX2 and GLM-4 as a graph; models/glm.py computes the same.

h = embedding                                            [T, H]
n = norm(h);  a = dense(attention(qkv(n)));       h = (n or h) + a
n = norm(h);  m = down(silu(gate) * up);          h = (n or h) + m
hidden = norm(h)

With sandwich norms, a = norm(dense(...)) and m = norm(down(...)).
"""

from __future__ import annotations

from glmserve.graphs.builder import AttentionBuilder, GraphBuilder, Value, Watch, ignore
from glmserve.model_config import ModelConfig


def build_hidden(
    builder: GraphBuilder[Value],
    attention: AttentionBuilder[Value],
    config: ModelConfig,
    token_ids: Value,
    watch: Watch[Value],
) -> Value:
    """The last hidden states of all tokens, [T, H].

    Args:
        token_ids: [T]
        watch: see build_layers.
    """
    hidden = builder.embedding(token_ids)
    watch("embedding", hidden)
    hidden = build_layers(builder, attention, config, hidden, range(config.num_layers), watch)
    watch("stream", hidden)
    hidden = build_final_norm(builder, config, hidden)
    if config.final_norm:
        watch("final_norm", hidden)
    return hidden


def build_layers(
    builder: GraphBuilder[Value],
    attention: AttentionBuilder[Value],
    config: ModelConfig,
    hidden: Value,
    layers: range,
    watch: Watch[Value] = ignore,
) -> Value:
    """The residual stream [T, H] behind these layers.

    Args:
        watch: called with the name and the value of each tensor, see runner/tensor_names.py; not
            with queries and keys, whose numbers have another order in graphs.
    """
    for layer in layers:
        name = f"layers.{layer}"
        normed = _norm(builder, config, hidden, f"{name}.input_norm")
        watch(f"{name}.input", hidden)
        watch(f"{name}.input_norm", normed)
        attended = attention.attend(layer, builder.linear(normed, f"{name}.qkv"))
        watch(f"{name}.attention", attended)
        block = _result(builder, config, attended, f"{name}.dense", watch)
        hidden = builder.add(normed if config.residual_post_norm else hidden, block)
        watch(f"{name}.middle", hidden)
        normed = _norm(builder, config, hidden, f"{name}.post_norm")
        watch(f"{name}.post_norm", normed)
        gate_up = builder.linear(normed, f"{name}.gate_up")
        watch(f"{name}.gate_up", gate_up)
        activated = builder.silu_and_mul(gate_up)
        watch(f"{name}.activation", activated)
        block = _result(builder, config, activated, f"{name}.down", watch)
        hidden = builder.add(normed if config.residual_post_norm else hidden, block)
    return hidden


def build_final_norm(builder: GraphBuilder[Value], config: ModelConfig, hidden: Value) -> Value:
    """The last hidden states [T, H] from the residual stream."""
    return _norm(builder, config, hidden, "final_norm") if config.final_norm else hidden


def _result(
    builder: GraphBuilder[Value], config: ModelConfig, x: Value, module: str, watch: Watch[Value]
) -> Value:
    """What attention or the MLP adds to the stream: a product, and its sandwich norm if there is
    one."""
    result = builder.linear(x, module)
    watch(module, result)
    if config.sandwich_norms:
        result = builder.rms_norm(result, f"{module}_norm", config.norm_eps)
        watch(f"{module}_norm", result)
    return result


def _norm(builder: GraphBuilder[Value], config: ModelConfig, x: Value, module: str) -> Value:
    if config.norm == "layernorm":
        return builder.layer_norm(x, module, config.norm_eps)
    return builder.rms_norm(x, module, config.norm_eps)
