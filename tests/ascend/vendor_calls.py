"""Runs where torch_npu is installed: every call of the ascend device, as the vendor sees it.

Started by test_vendor.py, in an environment of its own. Tensors are on torch's meta device, so that
a call is checked against the vendor's schema, and its result has the shape and the dtype that the
vendor's own shape functions (Meta) say. Prints a line for each check.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import numpy as np
import torch
import torch_npu  # noqa: F401
from torch.utils._python_dispatch import TorchDispatchMode

from glmserve.config import Quantization, RunnerConfig, report_nothing
from glmserve.contract.step import SamplingInput, ScheduledSequence, StepInput
from glmserve.model_config import read_model_config
from glmserve.models.dummy import dummy_weights
from glmserve.models.packing import pack_parameters
from glmserve.models.registry import build_model
from glmserve.ops.ascend.chip import chip_named
from glmserve.ops.ascend.linear import pack_static
from glmserve.ops.ascend.select_ops import make_ascend_ops
from glmserve.ops.inputs import upload
from glmserve.ops.linear.static import StaticWeight
from glmserve.runner.batch import build_batch
from support.ascend_simulator.library import RECORD
from support.ascend_simulator.record import schemas

META = torch.device("meta")
CHECKPOINT = Path(__file__).parents[2] / "glmserve" / "assets" / "glm-tiny"


class CountCalls(TorchDispatchMode):
    """Counts the vendor's calls by name."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: dict[str, int] = {}

    def __torch_dispatch__(self, call, types, args=(), kwargs=None):
        if call.namespace in ("npu", "atb"):
            name = call._schema.name
            self.counts[name] = self.counts.get(name, 0) + 1
        return call(*args, **(kwargs or {}))


def check_schemas() -> None:
    """The record is what this version of the package has."""
    found = schemas()
    assert found == RECORD["schemas"], {
        name: (found.get(name), recorded)
        for name, recorded in RECORD["schemas"].items()
        if found.get(name) != recorded
    }
    print(f"{len(found)} schemas")


def step() -> StepInput:
    """Two decodes, a chunk and a whole prompt."""
    table = np.arange(2, dtype=np.int32).tobytes()
    sequences = [
        ScheduledSequence(i, [0] * new, before, table, SamplingInput())
        for i, (before, new) in enumerate([(130, 1), (5, 1), (9, 20), (0, 3)])
    ]
    return StepInput(0, sequences)


def check_model(
    dtype: torch.dtype, quantization: Quantization | None, **options: str
) -> dict[str, int]:
    """One step of a whole model; the number of the vendor's calls by name."""
    model_config = read_model_config(CHECKPOINT)
    config = RunnerConfig(checkpoint=str(CHECKPOINT), **options)
    ops = make_ascend_ops(config, model_config, dtype, 128, META, chip_named("Ascend910B3"))
    stored = dummy_weights(model_config, dtype, META, report_nothing, 0)
    with CountCalls() as calls:
        parameters = pack_parameters(stored, model_config, ops, quantization)
        model = build_model(model_config, parameters, ops, 256)
        caches = ops.attention.allocate(model_config.num_layers, 4, model_config.head_dim)
        inputs = upload(build_batch(step(), 128), ops.attention, caches[0])
        hidden = model.forward(inputs, caches)
        logits = model.logits(hidden)
    assert hidden.shape == (4, model_config.hidden_size)
    assert hidden.dtype == dtype
    assert logits.shape == (4, model_config.vocab_size)
    return calls.counts


def check_static(dtype: torch.dtype) -> dict[str, int]:
    """A product with calibrated activations; the number of the vendor's calls by name."""
    rows, columns = 48, 64
    weight = StaticWeight(
        codes=torch.empty(rows, columns, dtype=torch.int8, device=META),
        deq_scale=torch.empty(rows, device=META),
        quant_bias=torch.empty(rows, dtype=torch.int32, device=META),
        input_scale=0.1,
        input_offset=-3.0,
        shift=torch.empty(columns, device=META),
    )
    packed = pack_static(weight, dtype, chip_named("Ascend910B3"))
    assert packed is not None
    with CountCalls() as calls:
        product = packed(torch.empty(5, columns, dtype=dtype, device=META), None)
    assert product.shape == (5, rows)
    assert product.dtype == dtype
    return calls.counts


def add_missing_shapes() -> list[torch.library.Library]:
    """The package has no shape functions for these three calls; the first two only write."""
    atb = torch.library.Library("atb", "IMPL", "Meta")
    atb.impl("_npu_reshape_and_cache", lambda *_: None)
    atb.impl("_npu_paged_attention", lambda *_, workspace=None: None)
    npu = torch.library.Library("npu", "IMPL", "Meta")
    npu.impl(
        "npu_convert_weight_to_int4pack",
        lambda weight, inner_k_tiles=0: weight.new_empty(len(weight), weight.shape[1] // 8),
    )
    return [atb, npu]


def main() -> None:
    check_schemas()
    _ = add_missing_shapes()  # a library takes its functions with it when it is freed
    torch.inference_mode().__enter__()
    seen: set[str] = set()
    halves = (torch.float16, torch.bfloat16)
    formats = (None, "int8", "int4", "w8a8")
    caches = (
        {},
        {"kv_cache_dtype": "int8"},
        {"attention_backend": "atb"},
        {"attention_backend": "incre"},
    )
    for dtype, quantization, options in itertools.product(halves, formats, caches):
        counts = check_model(dtype, quantization, **options)
        seen |= counts.keys()
        print(dtype, quantization, options, counts)
    for dtype in halves:
        seen |= check_static(dtype).keys()
    missing = RECORD["schemas"].keys() - seen
    assert not missing, f"never called: {missing}"
    print("all calls checked")


if __name__ == "__main__":
    sys.exit(main())
