"""How a model is cut: for tensor parallelism heads, the MLP's columns and the vocabulary; for
pipeline parallelism its layers.

Products whose results belong to a rank's own heads or columns are cut by rows (of [out, in]). The
products after them, attention's output and the MLP's second, are cut by columns, and the ranks'
results are summed. This is the scheme of Megatron-LM (Shoeybi et al. 2019). Key/value heads are
cut while there are enough; with more ranks than heads, each head is on several ranks.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from glmserve.contract.shard import ALL_LAYERS, SIZES, WHOLE, Shard, Stage
from glmserve.errors import OptionError
from glmserve.model_config.config import ModelConfig

_OPTION = "--tensor-parallel-size"


class Part(NamedTuple):
    """A rank's part of a model."""

    shard: Shard = WHOLE
    stage: Stage = ALL_LAYERS
    layers: range | None = None
    """Numbers of the stage's layers; None: all."""

    @property
    def ends(self) -> tuple[int, int] | None:
        """The first and the last of `layers`."""
        return None if self.layers is None else (self.layers[0], self.layers[-1])


WHOLE_MODEL = Part()


def local_config(config: ModelConfig, part: Part) -> ModelConfig:
    """The architecture of one rank's part: its layers, its heads, its ffn columns, its rows of the
    vocabulary.

    Raises:
        OptionError: the model cannot be cut into so many parts.
    """
    shard, stage, layers = part
    if layers is not None:
        config = replace(config, stage=stage, first_layer=layers.start, num_layers=len(layers))
    if shard.size == 1:
        return config
    check_divisible(config, shard.size)
    return replace(
        config,
        shard=shard,
        num_heads=config.num_heads // shard.size,
        num_kv_heads=len(kv_heads(config, shard)),
        ffn_size=config.ffn_size // shard.size,
    )


def kv_heads(config: ModelConfig, shard: Shard) -> range:
    """The rank's key/value heads: those that its query heads read."""
    if config.num_kv_heads >= shard.size:
        return shard.part(config.num_kv_heads)
    first = shard.rank * config.num_kv_heads // shard.size
    return range(first, first + 1)


def check_sizes(config: ModelConfig, ranks: int, stages: int) -> None:
    """Check that the model can be cut into so many parts.

    Args:
        config: of the whole model.
        ranks: of a stage.

    Raises:
        OptionError: it cannot.
    """
    check_divisible(config, ranks)
    if stages > config.num_layers:
        raise OptionError(
            f"--pipeline-parallel-size {stages}: the model has {config.num_layers} layers, and "
            "each stage needs one"
        )


def check_divisible(config: ModelConfig, size: int) -> None:
    """Raise OptionError, with the sizes that are possible, if the model cannot be cut."""
    reason = _reason_against(config, size)
    if reason is None:
        return
    possible = [n for n in SIZES if _reason_against(config, n) is None]
    raise OptionError(
        f"{_OPTION} {size}: {reason}; this model can be cut into {', '.join(map(str, possible))}"
    )


def _reason_against(config: ModelConfig, size: int) -> str | None:
    """Why the model cannot be cut into `size` parts; None: it can."""
    kv = config.num_kv_heads
    if config.num_heads % size:
        return f"its {config.num_heads} heads do not divide by it"
    if kv % size and size % kv:
        return f"its {kv} key/value heads neither divide by it nor into it"
    if config.ffn_size % size:
        return f"its ffn size of {config.ffn_size} does not divide by it"
    return _reason_against_codes(config, size)


def _reason_against_codes(config: ModelConfig, size: int) -> str | None:
    """Why the columns of a quantised checkpoint cannot be cut."""
    if config.stored_bits is None or size == 1:
        return None
    widths = (config.num_heads * config.head_dim // size, config.ffn_size // size)
    group = config.stored_group_size or (2 if config.stored_bits == 4 else 1)
    for width in widths:
        if width % group:
            return f"its weights have scales for groups of {group} columns, which would be cut"
    return None
