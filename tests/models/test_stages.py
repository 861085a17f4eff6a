"""A model whose layers are cut into stages computes the same bits as one in one process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from glmserve.config import RunnerConfig, report_nothing
from glmserve.contract.shard import Group, Shard, Stage
from glmserve.errors import OptionError
from glmserve.model_config import read_model_config
from glmserve.model_config.sharding import Part
from glmserve.models.dummy import dummy_weights
from glmserve.models.parts import part_of
from glmserve.models.weights import load_weights
from support.exhaustive import exhaustive
from support.golden import ATOL, FIRST_GENERATION, NAMES, PREFIXES, read_greedy, read_logits
from support.paged_model import Operations, PagedModel
from support.ranks import on_stages

CHUNK = 16
CPU = torch.device("cpu")


def logits_of(stages: int, size: int, folder: Path, **options: Any) -> NDArray[Any]:
    """Logits of the golden's first sequence, from the last stage; all of its ranks have the same.

    Args:
        size: ranks of a stage.
    """
    ids, _ = read_logits(folder)[0]

    def work(collectives: Any, stage: Stage) -> NDArray[Any]:
        model = PagedModel(folder, collectives=collectives, stage=stage, **options)
        return model.logits(ids, None if model.marks else CHUNK)

    *earlier, last = on_stages(stages, size, work)
    for other in earlier[len(earlier) + 1 - size :]:
        np.testing.assert_array_equal(other, last)
    return last


FIRST = ("glm2_base", "glm1_base", "glm4_0414")


def variants() -> list[Any]:
    """Stages, ranks of each, operations. A plain run has one checkpoint of each generation."""
    every = [(2, 1, "native"), (2, 2, "native"), (2, 1, "packed"), (2, 2, "packed")]
    plain = [(name, *how) for name in FIRST for how in every[:2]]
    names = (*NAMES, *FIRST_GENERATION)
    more = [(name, *how) for name in names for how in every if (name, *how) not in plain]
    return [*plain, *(exhaustive(*variant) for variant in more)]


@pytest.mark.parametrize(("name", "stages", "size", "operations"), variants())
def test_goldens(
    golden_models: Path, name: str, stages: int, size: int, operations: Operations
) -> None:
    folder = golden_models / name
    _, want = read_logits(folder)[0]
    found = logits_of(stages, size, folder, operations=operations)
    np.testing.assert_allclose(found, want, rtol=0, atol=ATOL)
    if size == 1:
        alone = logits_of(1, 1, folder, operations=operations)
        np.testing.assert_array_equal(found, alone)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("glm2_base", torch.bfloat16),
        exhaustive("glm1_base", torch.float32),
        exhaustive("glm2_int4", torch.bfloat16),
        exhaustive("glm4_base", torch.float32),
    ],
)
def test_sums_in_order_are_the_same_bits_at_every_size(
    golden_models: Path, name: str, dtype: torch.dtype
) -> None:
    options: Any = {"dtype": dtype, "operations": "native", "ordered": True}
    folder = golden_models / name
    alone = logits_of(1, 1, folder, **options)
    for stages, size in ((2, 1), (2, 2)):
        np.testing.assert_array_equal(logits_of(stages, size, folder, **options), alone)


@pytest.mark.parametrize("quantization", ["int8", exhaustive("int4"), exhaustive("w8a8")])
def test_rounding_while_loading_is_that_of_one_process(
    golden_models: Path, quantization: str
) -> None:
    """Each layer is rounded by itself. The output layer, tied or not, is rounded as well."""
    options: Any = {"quantization": quantization, "operations": "native"}
    for name in ("glm2_base", "glm1_base"):
        alone = logits_of(1, 1, golden_models / name, **options)
        np.testing.assert_array_equal(logits_of(2, 1, golden_models / name, **options), alone)


def test_int8_cache(golden_models: Path) -> None:
    options: Any = {"kv_cache_dtype": "int8", "operations": "native"}
    one, two = (logits_of(n, 1, golden_models / "glm2_base", **options) for n in (1, 2))
    np.testing.assert_array_equal(two, one)


@pytest.mark.parametrize(("base", "prefix"), [PREFIXES[0], *(exhaustive(*p) for p in PREFIXES[1:])])
@pytest.mark.parametrize("size", [1, 2])
def test_prefixes(golden_models: Path, base: str, prefix: str, size: int) -> None:
    """Each stage has the prefix of its own layers."""

    def work(collectives: Any, stage: Stage) -> list[NDArray[Any]]:
        ptuning = golden_models / prefix
        model = PagedModel(
            golden_models / base, ptuning=ptuning, collectives=collectives, stage=stage
        )
        return model.continued(*read_greedy(golden_models / prefix), 7)

    for found in on_stages(2, size, work)[size:]:
        for got, (_, want) in zip(found, read_logits(golden_models / prefix), strict=True):
            np.testing.assert_allclose(got, want, rtol=0, atol=ATOL)


def part(folder: Path, stage: Stage, split: Any = "memory") -> Part:
    config = RunnerConfig(
        checkpoint=str(folder),
        pipeline_parallel_size=stage.size,
        pipeline_split=split,
        group=Group(Shard(), "", stage),
    )
    return part_of(config, read_model_config(folder), 4, None)


@pytest.mark.parametrize("name", [*NAMES, *FIRST_GENERATION])
@pytest.mark.parametrize("load", ["checkpoint", "dummy"])
def test_the_stages_are_the_whole(golden_models: Path, name: str, load: str) -> None:
    """Every parameter is in one stage, and nothing else is read; a tied embedding is in two."""
    folder = golden_models / name
    config = read_model_config(folder)

    def read(part: Part) -> dict[str, torch.Tensor]:
        if load == "dummy":
            return dict(dummy_weights(config, torch.float32, CPU, report_nothing, 7, part))
        return dict(load_weights(config, folder, torch.float32, CPU, report_nothing, part))

    whole, seen = read(Part()), dict[str, int]()
    for rank in range(2):
        for parameter, tensor in read(part(folder, Stage(rank, 2))).items():
            assert tensor.equal(whole[parameter])
            seen[parameter] = seen.get(parameter, 0) + 1
    tied = {"embedding.weight"} if config.tied_embeddings else set()
    assert seen == {parameter: 2 if parameter in tied else 1 for parameter in whole}


def test_more_stages_than_layers_are_refused(golden_models: Path) -> None:
    with pytest.raises(OptionError, match="the model has 3 layers, and each stage needs one"):
        part(golden_models / "glm2_base", Stage(0, 4))


def test_equal_numbers_of_layers(golden_models: Path) -> None:
    folder = golden_models / "glm2_base"
    two = [part(folder, Stage(rank, 2), "equal").layers for rank in range(2)]
    assert two == [range(2), range(2, 3)]
