"""The xformers backend; its kernels need a GPU, so here its masks are worked out in plain torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from glmserve.errors import OptionError
from glmserve.ops.attention.kv_store import ExactStore
from support.attention_steps import Case, run_step

CPU = torch.device("cpu")

xformers = pytest.importorskip("glmserve.ops.attention.xformers", reason="needs the xformers extra")


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Any) -> Tensor:
    """[1, T, groups, heads, D], over everything the mask lets through."""
    q, k, v = (x.permute(0, 2, 3, 1, 4) for x in (q, k, v))
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    scores = scores + mask.materialize(scores.shape).to(scores.dtype)
    return (scores.softmax(-1) @ v).permute(0, 3, 1, 2, 4)


@pytest.fixture
def attention(monkeypatch: pytest.MonkeyPatch) -> Callable[[Case], Any]:
    monkeypatch.setattr(xformers, "memory_efficient_attention_forward", attend)

    def make(case: Case) -> Any:
        store = ExactStore(case.dtype)
        return xformers.XformersAttention(case.kv_heads, CPU, case.block_size, store)

    return make


@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 2), (4, 4), (6, 1)])
@pytest.mark.parametrize(
    "sequences",
    [[(0, 1)], [(9, 1), (3, 1)], [(0, 9)], [(5, 9)], [(5, 9), (40, 1), (0, 3), (2, 1), (8, 2)]],
)
def test_whole_steps(
    attention: Callable[[Case], Any],
    heads: int,
    kv_heads: int,
    sequences: list[tuple[int, int]],
) -> None:
    case = Case(sequences, heads, kv_heads)
    got, want = run_step(case, attention)
    torch.testing.assert_close(got.double(), want, rtol=0, atol=1e-5)


def test_says_why_it_cannot_run() -> None:
    backend = xformers.XformersAttention(2, CPU, 16, ExactStore(torch.float32))
    with pytest.raises(OptionError, match="cannot be used here: No operator found"):
        backend.check_supported(4, 16, torch.float32)
