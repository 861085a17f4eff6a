"""Into how many segments a rank cuts its part of a weight (--deterministic)."""

from __future__ import annotations

from glmserve.config import Quantization
from glmserve.errors import OptionError
from glmserve.model_config import ModelConfig
from glmserve.models.parameters import INT4_GROUP, QUANTIZED_BITS
from glmserve.ops.linear.segments import count_segments


def count_of(module: str, config: ModelConfig, quantization: Quantization | None) -> int | None:
    """Segments of the rank's part of a linear module's weight; None: its products are not added.

    Args:
        module: canonical name.
        config: of the rank's part.
        quantization: what plain weights are quantised to.
    """
    columns = _columns(module, config)
    if columns is None:
        return None
    return count_segments(columns, _unit(columns, config, quantization)) // config.shard.size


def check_segments(config: ModelConfig, quantization: Quantization | None) -> None:
    """Check that each rank has whole segments.

    Args:
        config: of a rank's part.

    Raises:
        OptionError: the groups of columns that share a scale leave too few.
    """
    size = config.shard.size
    for module in ("dense", "down"):
        columns = _columns(module, config) or 0
        unit = _unit(columns, config, quantization)
        count = count_segments(columns, unit)
        if count % size:
            raise OptionError(
                f"--deterministic with --tensor-parallel-size {size}: sums over {columns} columns "
                f"are made in {count} segments, of whole groups of {unit} columns; leave one of "
                "both options out"
            )


def _columns(module: str, config: ModelConfig) -> int | None:
    """Columns of the whole weight of a module whose products ranks add."""
    match module.rpartition(".")[2]:
        case "dense":
            return config.num_heads * config.head_dim * config.shard.size
        case "down":
            return config.ffn_size * config.shard.size
    return None


def _unit(columns: int, config: ModelConfig, quantization: Quantization | None) -> int:
    """Columns that must stay together."""
    if config.stored_bits is not None:
        return config.stored_group_size or (2 if config.stored_bits == 4 else 1)
    if QUANTIZED_BITS.get(quantization) == 4:
        return INT4_GROUP if columns % INT4_GROUP == 0 else 2
    return 1
