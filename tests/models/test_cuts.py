"""What the ranks of a cut model read: together the whole model, each a part of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from glmserve.config import report_nothing
from glmserve.contract.shard import Shard
from glmserve.errors import OptionError
from glmserve.model_config import ModelConfig, read_model_config
from glmserve.model_config.sharding import Part, local_config
from glmserve.models.cuts import cut_of, is_summed_bias
from glmserve.models.parameters import parameter_shapes, stored_parameters
from glmserve.models.weights import load_weights
from support.golden import FIRST_GENERATION, NAMES

CPU = torch.device("cpu")


def read(config: ModelConfig, folder: Path, part: Part) -> dict[str, Tensor]:
    return dict(load_weights(config, folder, torch.float32, CPU, report_nothing, part))


@pytest.mark.parametrize("name", [*NAMES, *FIRST_GENERATION])
@pytest.mark.parametrize("size", [1, 2, 4])
def test_the_parts_are_the_whole(golden_models: Path, name: str, size: int) -> None:
    """Each number of the whole is on a rank; only heads that several ranks read are on several."""
    folder = golden_models / name
    config = read_model_config(folder)
    whole = read(config, folder, Part(Shard()))
    try:
        local_config(config, Part(Shard(0, size)))
    except OptionError as error:
        assert name in ("glm4_base", "glm4_0414") and size == 4, error  # 6 heads
        return
    parts = [read(config, folder, Part(Shard(rank, size))) for rank in range(size)]
    for parameter, tensor in whole.items():
        seen = torch.zeros_like(tensor, dtype=torch.int64)
        for rank, part in enumerate(parts):
            own, cut = part[parameter], cut_of(config, parameter, Shard(rank, size))
            if is_summed_bias(parameter):
                assert own.equal(tensor if rank == 0 else torch.zeros_like(tensor))
                seen += rank == 0
            elif cut is None:
                assert own.equal(tensor)
                seen += 1
            else:
                assert own.equal(cut.of(tensor))
                for rows in cut.ranges:
                    seen.narrow(cut.dim, rows.start, len(rows)).add_(1)
        assert seen.min() >= 1
        if ".qkv." not in parameter:
            assert seen.max() in (1, size)


@pytest.mark.parametrize("name", [*NAMES, *FIRST_GENERATION])
def test_a_part_has_the_shapes_of_its_config(golden_models: Path, name: str) -> None:
    folder = golden_models / name
    config = read_model_config(folder)
    for rank in range(2):
        shard = Shard(rank, 2)
        shapes = parameter_shapes(local_config(config, Part(shard)))
        stored = {
            n: p.shape for n, p in stored_parameters(local_config(config, Part(shard))).items()
        }
        for parameter, tensor in read(config, folder, Part(shard)).items():
            expected = stored.get(parameter, shapes.get(parameter))
            if parameter.endswith(".scales") and config.stored_group_size is None:
                expected = tensor.shape  # one for each row, whatever the columns
            assert tuple(tensor.shape) == expected, parameter


def test_what_cannot_be_cut_says_what_can(golden_models: Path) -> None:
    config = read_model_config(golden_models / "glm4_base")  # 6 heads
    with pytest.raises(OptionError, match=r"its 6 heads do not divide by it; .* into 1, 2$"):
        local_config(config, Part(Shard(0, 4)))
