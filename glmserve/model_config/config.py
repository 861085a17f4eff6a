"""The architecture of one checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from glmserve.config import WeightBits
from glmserve.contract.prompt_layout import PromptMarks
from glmserve.contract.shard import ALL_LAYERS, WHOLE, Shard, Stage
from glmserve.model_config.modelslim import ModelSlim
from glmserve.model_config.prefix import PrefixConfig

ROPE_BASE = 10000.0
"""The family's rotary base before rope_ratio: a literal in the code of its publishers."""


@dataclass(frozen=True)
class Yarn:
    """A context stretched by YaRN (Peng et al., arXiv 2309.00071), with transformers' names.

    Slow rotations become `factor` times slower, fast ones stay, and between both it changes
    gradually. How fast a pair rotates is its number of turns over the original context.
    """

    factor: float
    original_context: int
    """Tokens, before it was stretched."""
    attention_factor: float
    """Multiplies cosines and sines, so that rotated numbers get larger."""
    beta_fast: float = 32.0
    """Turns from which on a rotation is fast."""
    beta_slow: float = 1.0
    """Turns up to which a rotation is slow."""
    truncate: bool = True
    """The bounds between pairs are whole numbers."""


@dataclass(frozen=True)
class RopeConfig:
    """Rotary embedding of adjacent pairs in the first `dim` dims of each head."""

    dim: int
    base: float
    position_divisor: float
    """rope_ratio of ChatGLM2-6B-32k, or the factor of linear scaling; else 1."""
    axes: Literal[1, 2] = 1
    """2: a second position rotates the next `dim` dims in the same way."""
    rounded_frequencies: bool = False
    """Frequencies are rounded to float16, as in the original code of ChatGLM-6B."""
    yarn: Yarn | None = None


@dataclass(frozen=True)
class ModelConfig:
    """Architecture of one checkpoint of the family."""

    path: Path
    """The config.json it was read from."""
    model_type: Literal["chatglm-6b", "chatglm", "glm", "glm4"]
    """Names and layout of the stored tensors: THUDM's of the first generation and since the second,
    or transformers' in-tree Glm and Glm4. It also selects the model class."""
    vocab_size: int
    """Rows of the output layer; may exceed the tokenizer's vocabulary."""
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    ffn_size: int
    norm: Literal["rmsnorm", "layernorm"]
    norm_eps: float
    final_norm: bool
    qkv_bias: bool
    linear_bias: bool
    """Biases of the attention output and of the MLP."""
    qkv_per_head: bool
    """Stored query_key_value rows are [q k v] head by head instead of all q, all k, all v."""
    residual_post_norm: bool
    """The residual is the normed tensor instead of the stream."""
    tied_embeddings: bool
    rope: RopeConfig
    max_context: int
    stored_dtype: str | None
    eos_token_ids: tuple[int, ...]
    unknown_fields: tuple[str, ...]
    """Fields of config.json that are not known; the server warns about them."""
    stored_bits: WeightBits | None = None
    """Bits of the layers' linear weights in a quantised checkpoint; None: weights are not
    quantised."""
    stored_group_size: int | None = None
    """Columns of such a weight that share a scale; None: all columns, as in official
    checkpoints."""
    modelslim: ModelSlim | None = None
    """The kinds of the linear modules of a checkpoint that ModelSlim quantised; stored_bits is 8
    then."""
    gated_ffn: bool = True
    """The MLP has a gate projection beside the up projection."""
    sandwich_norms: bool = False
    """The results of attention and of the MLP pass norms of their own before they are added to the
    stream."""
    prompt_marks: PromptMarks | None = None
    """The tokens that determine a prompt's layout; None: prompts are read from left to right."""
    prefix: PrefixConfig | None = None
    """Learnt keys and values before every sequence."""
    shard: Shard = WHOLE
    """The part of each layer that this config describes, see `local_config`."""
    stage: Stage = ALL_LAYERS
    """The part of the layers."""
    first_layer: int = 0
    """Number of the first of them."""

    @property
    def is_remote_code(self) -> bool:
        """Whether the checkpoint is for the publisher's code, not for a class of transformers'."""
        return self.model_type in ("chatglm-6b", "chatglm")

    @property
    def prefix_length(self) -> int:
        """Slots of the prefix; 0: there is none."""
        return self.prefix.length if self.prefix else 0

    @property
    def layers(self) -> range:
        """Numbers of the layers."""
        return range(self.first_layer, self.first_layer + self.num_layers)

    @property
    def has_embedding(self) -> bool:
        """Whether this part holds the embedding. A tied one is the output layer, too."""
        return self.stage.is_first or (self.stage.is_last and self.tied_embeddings)

    @property
    def vocab_rows(self) -> int:
        """Rows of the embedding and of the output layer that this part holds."""
        return self.vocab_parts[self.shard.rank]

    @property
    def vocab_parts(self) -> list[int]:
        """`vocab_rows` of all ranks."""
        size = self.shard.size
        return [len(Shard(rank, size).part(self.vocab_size)) for rank in range(size)]

    @property
    def linear_widths(self) -> frozenset[int]:
        """The different numbers of columns of the layers' linear weights."""
        return frozenset({self.hidden_size, self.num_heads * self.head_dim, self.ffn_size})
