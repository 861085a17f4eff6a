"""Options of `glmserve serve` by their names in Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from glmserve.config import EMBEDDED_CHECKPOINT, NamedAdapter
from glmserve.embedded.options import read_options
from glmserve.errors import OptionError


def test_defaults_are_those_of_serve() -> None:
    options = read_options({})
    assert options.checkpoint == EMBEDDED_CHECKPOINT
    assert options.queue_size == 4096
    assert options.prefix_cache is True


def test_names_aliases_and_kinds_of_values(tmp_path: Path) -> None:
    options = read_options(
        {
            "model": EMBEDDED_CHECKPOINT,
            "max_num_seqs": 3,
            "tp": 2,
            "prefix_cache": False,
            "deterministic": True,
            "ignore_unknown_fields": False,
            "kv_cache_memory": "1M",
            "dtype": None,
            "served_model_name": ["a", "b"],
            "adapter": {"formal": tmp_path},
            "seed": -5,
        }
    )
    assert (options.max_batch_size, options.tensor_parallel_size) == (3, 2)
    assert (options.prefix_cache, options.deterministic) == (False, True)
    assert not options.ignore_unknown_fields
    assert (options.kv_cache_memory, options.dtype) == (2**20, "auto")
    assert options.served_model_name == ["a", "b"]
    assert options.adapter == [NamedAdapter("formal", tmp_path)]
    assert options.seed == -5


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_batchsize": 3}, "max_batchsize: glmserve serve has no option --max-batchsize"),
        ({"max_batch_size": 0}, "max_batch_size: 0 is too small"),
        ({"dtype": "float8"}, "dtype: invalid choice"),
        ({"dtype": True}, "dtype: must be a value, not True"),
        ({"dtype": False}, "dtype: must be a value, not False"),
        ({"deterministic": "yes"}, "deterministic: must be True or False, not 'yes'"),
        ({"device": object()}, "device: a object is no value"),
        ({"port": 8001}, "port: means nothing without HTTP"),
        ({"api_key": ["k"]}, "api_key: means nothing without HTTP"),
        ({"journal": "folder"}, "journal: means nothing without HTTP"),
        ({"num_machines": 2}, "num_machines: several machines need a command"),
        ({"executor": "torchrun"}, "executor: several machines need a command"),
        ({"checkpoint": "a", "model": "b"}, "model: the same option as checkpoint"),
        ({"cpus": "0", "numa_node": 0}, "not allowed with argument"),
    ],
)
def test_what_is_wrong_is_said(options: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError) as raised:
        read_options(options)
    assert said in raised.value.message


def test_a_value_that_asks_for_nothing_is_accepted() -> None:
    read_options({"port": 8000, "api_key": None, "public_docs": False, "num_machines": 1})
