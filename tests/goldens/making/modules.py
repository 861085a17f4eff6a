"""The publisher's models as trees of torch modules, with the names of their original code.

PEFT finds the modules that it changes by these names. What they compute is held against the
originals' logits before anything is made with them (see lora.py).
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

Config = dict[str, Any]


class _Named(nn.Module):
    """A module that only holds others."""

    def __init__(self, **modules: nn.Module) -> None:
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)


class Chatglm(nn.Module):
    """ChatGLM2-6B, ChatGLM3-6B, GLM-4-9B: RMSNorm, grouped keys, half of each head rotates."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.c = c
        hidden, vocab = c["hidden_size"], c["padded_vocab_size"]
        layers = nn.ModuleList(self._layer() for _ in range(c["num_layers"]))
        final = nn.RMSNorm(hidden, c["layernorm_epsilon"])
        self.transformer = _Named(
            embedding=_Named(word_embeddings=nn.Embedding(vocab, hidden)),
            encoder=_Named(layers=layers, final_layernorm=final),
            output_layer=nn.Linear(hidden, vocab, bias=False),
        )

    def _layer(self) -> nn.Module:
        c = self.c
        hidden, eps = c["hidden_size"], c["layernorm_epsilon"]
        queries = c["num_attention_heads"] * c["kv_channels"]
        rows = queries + 2 * self._groups * c["kv_channels"]
        return _Named(
            input_layernorm=nn.RMSNorm(hidden, eps),
            self_attention=_Named(
                query_key_value=nn.Linear(hidden, rows, bias=c["add_qkv_bias"]),
                dense=nn.Linear(queries, hidden, bias=False),
            ),
            post_attention_layernorm=nn.RMSNorm(hidden, eps),
            mlp=_Named(
                dense_h_to_4h=nn.Linear(hidden, 2 * c["ffn_hidden_size"], bias=False),
                dense_4h_to_h=nn.Linear(c["ffn_hidden_size"], hidden, bias=False),
            ),
        )

    @property
    def _groups(self) -> int:
        c = self.c
        return (
            c["multi_query_group_num"] if c["multi_query_attention"] else c["num_attention_heads"]
        )

    def forward(self, ids: Tensor) -> Tensor:
        """Logits [T, V] of one sequence [T]."""
        x = self.transformer.embedding.word_embeddings(ids)
        causal = torch.ones(len(ids), len(ids), dtype=torch.bool).tril()
        for layer in self.transformer.encoder.layers:
            x = x + self._attend(layer.self_attention, layer.input_layernorm(x), causal)
            wide = layer.mlp.dense_h_to_4h(layer.post_attention_layernorm(x))
            gate, up = wide.chunk(2, dim=-1)
            x = x + layer.mlp.dense_4h_to_h(F.silu(gate) * up)
        return self.transformer.output_layer(self.transformer.encoder.final_layernorm(x))

    def _attend(self, attention: nn.Module, x: Tensor, causal: Tensor) -> Tensor:
        heads, dim, groups = self.c["num_attention_heads"], self.c["kv_channels"], self._groups
        mixed = attention.query_key_value(x)
        if self.c["multi_query_attention"]:
            parts = mixed.split([heads * dim, groups * dim, groups * dim], dim=-1)
            q, k, v = (part.view(len(x), -1, dim) for part in parts)
        else:
            q, k, v = mixed.view(len(x), heads, 3 * dim).chunk(3, dim=-1)
        q, k = (self._rotated(part) for part in (q, k))
        k, v = (part.repeat_interleave(heads // groups, dim=1) for part in (k, v))
        return attention.dense(attend(q, k, v, causal))

    def _rotated(self, x: Tensor) -> Tensor:
        rotary = self.c["kv_channels"] // 2
        base = 10000.0 * self.c.get("rope_ratio", 1)
        frequencies = 1.0 / base ** (torch.arange(0, rotary, 2).float() / rotary)
        angles = torch.outer(torch.arange(len(x)).float(), frequencies)[:, None]
        a, b = x[..., :rotary].unflatten(-1, (-1, 2)).unbind(-1)
        cos, sin = angles.cos(), angles.sin()
        turned = torch.stack((a * cos - b * sin, b * cos + a * sin), dim=-1).flatten(-2)
        return torch.cat((turned, x[..., rotary:]), dim=-1)


class Chatglm6B(nn.Module):
    """ChatGLM-6B: LayerNorm, two positions, prompts read in both directions."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.c = c
        hidden = c["hidden_size"]
        self.transformer = _Named(
            word_embeddings=nn.Embedding(c["vocab_size"], hidden),
            layers=nn.ModuleList(self._layer() for _ in range(c["num_layers"])),
            final_layernorm=nn.LayerNorm(hidden, c["layernorm_epsilon"]),
        )
        self.lm_head = nn.Linear(hidden, c["vocab_size"], bias=False)

    def _layer(self) -> nn.Module:
        hidden, inner = self.c["hidden_size"], self.c["inner_hidden_size"]
        return _Named(
            input_layernorm=nn.LayerNorm(hidden, self.c["layernorm_epsilon"]),
            attention=_Named(
                query_key_value=nn.Linear(hidden, 3 * hidden), dense=nn.Linear(hidden, hidden)
            ),
            post_attention_layernorm=nn.LayerNorm(hidden, self.c["layernorm_epsilon"]),
            mlp=_Named(
                dense_h_to_4h=nn.Linear(hidden, inner), dense_4h_to_h=nn.Linear(inner, hidden)
            ),
        )

    def forward(self, ids: Tensor) -> Tensor:
        """Logits [T, V] of one sequence [T]."""
        alpha = math.sqrt(2 * 28)
        tokens = ids.tolist()
        context = tokens.index(self.c["bos_token_id"])
        marks = (self.c["gmask_token_id"], self.c["mask_token_id"])
        mark = next(tokens.index(mark) for mark in marks if mark in tokens)
        order = torch.arange(len(ids))
        positions = torch.where(order < context, order, mark)
        blocks = (order - context + 1).clamp(min=0)
        visible = (order[:, None] >= order) | (order < context)
        x = self.transformer.word_embeddings(ids)
        for layer in self.transformer.layers:
            normed = layer.input_layernorm(x)
            attended = self._attend(layer.attention, normed, (positions, blocks), visible)
            normed = layer.post_attention_layernorm(normed * alpha + attended)
            inner = F.gelu(layer.mlp.dense_h_to_4h(normed), approximate="tanh")
            x = normed * alpha + layer.mlp.dense_4h_to_h(inner)
        return self.lm_head(self.transformer.final_layernorm(x))

    def _attend(
        self, attention: nn.Module, x: Tensor, positions: tuple[Tensor, Tensor], visible: Tensor
    ) -> Tensor:
        heads = self.c["num_attention_heads"]
        q, k, v = attention.query_key_value(x).view(len(x), heads, -1).chunk(3, dim=-1)
        q, k = (
            torch.cat(
                [
                    _half_rotated(half, at)
                    for half, at in zip(part.chunk(2, dim=-1), positions, strict=True)
                ],
                dim=-1,
            )
            for part in (q, k)
        )
        return attention.dense(attend(q, k, v, visible))


def _half_rotated(x: Tensor, positions: Tensor) -> Tensor:
    """Pairs are (i, i + d/2); the original rounds the frequencies to float16."""
    dim = x.shape[-1]
    frequencies = (1.0 / 10000 ** (torch.arange(0, dim, 2).float() / dim)).half().float()
    angles = torch.outer(positions.float(), frequencies).repeat(1, 2)[:, None]
    first, second = x.chunk(2, dim=-1)
    return x * angles.cos() + torch.cat((-second, first), dim=-1) * angles.sin()


def attend(q: Tensor, k: Tensor, v: Tensor, visible: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(D)) v: [T, heads, D] each, to [T, heads * D]."""
    scores = torch.einsum("thd,shd->hts", q, k) / math.sqrt(q.shape[-1])
    odds = scores.masked_fill(~visible, float("-inf")).softmax(-1)
    return torch.einsum("hts,shd->thd", odds, v).flatten(1)
