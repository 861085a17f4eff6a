"""Which part of a model a rank has: its shard, its stage and that stage's layers."""

from __future__ import annotations

from glmserve.config import Quantization, RunnerConfig
from glmserve.contract.shard import Shard, Stage
from glmserve.model_config import ModelConfig
from glmserve.model_config.layer_split import PartCosts, split_by_memory, split_equally
from glmserve.model_config.sharding import Part, check_sizes, local_config
from glmserve.models.parameters import weight_bytes


def part_of(
    config: RunnerConfig, model: ModelConfig, itemsize: int, quantization: Quantization | None
) -> Part:
    """The part of the rank that a config is for; if it is for none, the part that needs most.

    Every rank computes the same split: it depends on the model and on options alone.

    Args:
        model: the whole one.
        itemsize: bytes of a floating point number.
        quantization: what unquantised linear weights become.

    Raises:
        OptionError: the model cannot be cut into so many parts.
    """
    size = config.pipeline_parallel_size
    check_sizes(model, config.tensor_parallel_size, size)
    layers = [range(model.num_layers)]
    costs = _costs(config, model, itemsize, quantization)
    if size > 1:
        layers = _split(config, costs)
    if config.group is not None:
        shard, stage = config.group.shard, config.group.stage
    else:
        # Of what does not divide evenly, the last shard has most.
        shard = Shard(config.tensor_parallel_size - 1, config.tensor_parallel_size)
        stage = Stage(max(range(size), key=lambda i: costs.part(layers[i])), size)
    return Part(shard, stage, layers[stage.rank] if size > 1 else None)


def _split(config: RunnerConfig, costs: PartCosts) -> list[range]:
    """Layers of each stage."""
    size = config.pipeline_parallel_size
    if config.pipeline_split == "equal":
        return split_equally(costs.num_layers, size)
    return split_by_memory(costs, size)


def _costs(
    config: RunnerConfig, model: ModelConfig, itemsize: int, quantization: Quantization | None
) -> PartCosts:
    """Bytes of weights, and of the KV cache of one request of full length."""

    def bytes_of(stage: Stage) -> int:
        one = local_config(model, Part(stage=stage, layers=range(1)))
        return weight_bytes(one, itemsize, quantization)

    first, layer, last = (bytes_of(Stage(rank, 3)) for rank in range(3))
    tokens = config.max_model_len or model.max_context
    number = itemsize if config.kv_cache_dtype == "auto" else 1
    return PartCosts(
        num_layers=model.num_layers,
        layer=layer,
        layer_cache=2 * tokens * model.num_kv_heads * model.head_dim * number,
        first=first - layer,
        last=last - layer,
    )
