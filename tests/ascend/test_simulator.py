"""The simulated calls have the vendor's signatures."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from torch import Tensor

from glmserve.ops.attention.npu import causal_mask
from support.ascend_simulator import kernels
from support.ascend_simulator.library import RECORD, register


@pytest.mark.parametrize("name", RECORD["schemas"])
def test_signature(name: str) -> None:
    """Same arguments in the same order, same kinds, same defaults; and what is registered is what
    the vendor's package had."""
    register()
    namespace, _, own = name.partition("::")
    recorded = torch._C.parse_schema(RECORD["schemas"][name])
    registered = getattr(getattr(torch.ops, namespace), own).default._schema
    assert str(registered) == str(recorded)
    ours = inspect.signature(getattr(kernels, own)).parameters.values()
    theirs = recorded.arguments
    assert [p.name for p in ours] == [a.name for a in theirs]
    assert [p.kind is p.KEYWORD_ONLY for p in ours] == [a.kwarg_only for a in theirs]
    defaults = [(p.default, a) for p, a in zip(ours, theirs, strict=True)]
    for default, argument in defaults:
        assert (default is inspect.Parameter.empty) == (not argument.has_default_value())
        if default is not inspect.Parameter.empty:
            assert default == argument.default_value


def attend(**changed: Any) -> Tensor:
    """Two sequences with one and three new tokens over pages of 128; some arguments changed."""
    register()
    given: dict[str, Any] = {
        "query": torch.randn(4, 4, 16),
        "key": torch.randn(3, 128, 32),
        "value": torch.randn(3, 128, 32),
        "atten_mask": causal_mask(torch.device("cpu")),
        "actual_seq_lengths": [1, 4],
        "actual_seq_lengths_kv": [130, 3],
        "block_table": torch.tensor([[0, 2], [1, 0]], dtype=torch.int32),
        "num_heads": 4,
        "num_key_value_heads": 2,
        "input_layout": "TND",
        "sparse_mode": 3,
        "block_size": 128,
    }
    given |= changed
    named = [given.pop(name) for name in ("query", "key", "value")]
    result: Tensor = torch.ops.npu.npu_fused_infer_attention_score(*named, **given)[0]
    return result


def test_attention_as_it_should_be() -> None:
    assert attend().shape == (4, 4, 16)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"query": torch.randn(4, 16, 4).transpose(1, 2)}, "query has gaps"),
        ({"key": torch.randn(3, 128, 32, dtype=torch.float64)}, "another dtype"),
        ({"atten_mask": None}, "the mask is int8"),
        ({"atten_mask": torch.zeros(2048, 2048, dtype=torch.int8)}, "the mask is int8"),
        ({"atten_mask": torch.ones(2048, 2048).triu(1).bool()}, "the mask is int8"),
        ({"sparse_mode": 0}, "not simulated"),
        ({"actual_seq_lengths": [1, 3]}, "actual_seq_lengths"),
        ({"actual_seq_lengths": [4, 1]}, "actual_seq_lengths"),
        ({"actual_seq_lengths_kv": [130, 2]}, "more queries than keys"),
        ({"actual_seq_lengths_kv": [257, 3]}, "block_table is too short"),
        ({"block_table": torch.tensor([[0, 2], [1, 0]])}, "block_table"),
        ({"block_table": torch.tensor([[0, 3], [1, 0]], dtype=torch.int32)}, "no such block"),
        ({"block_size": 64}, "block_size"),
        ({"num_heads": 2}, "num_heads"),
        ({"key_antiquant_scale": torch.ones(3, 2, 128)}, "for single queries"),
    ],
)
def test_what_the_documents_forbid(changed: dict[str, Any], message: str) -> None:
    """So a device that passes these calls has kept to them."""
    with pytest.raises(RuntimeError, match=message):
        attend(**changed)


def test_slots_that_are_not_there() -> None:
    register()
    new, cache = torch.ones(2, 2, 16), torch.zeros(2, 128, 2, 16)
    for slots in ([0, 256], [-1, 0]):
        at = torch.tensor(slots, dtype=torch.int32)
        with pytest.raises(RuntimeError, match="no such slot"):
            torch.ops.npu.npu_scatter_pa_kv_cache(new, new, cache, cache, at, cache_mode="Norm")


def test_packed_codes_of_4_bits() -> None:
    register()
    codes = torch.randint(-8, 8, (5, 24), dtype=torch.int32)
    packed = torch.ops.npu.npu_convert_weight_to_int4pack(codes)
    assert packed.shape == (5, 3)
    one = torch.eye(5)
    product = torch.ops.npu.npu_weight_quant_batchmatmul(one, packed, torch.ones(24))
    assert torch.equal(product, codes.float())
