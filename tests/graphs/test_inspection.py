"""Compiled folders beside a golden, tensor by tensor."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from glmserve.config import GraphAttention, GraphTarget, report_nothing
from glmserve.golden.device_tensors import inspected_tensors
from glmserve.golden.difference import differences, first_beyond
from glmserve.golden.dump import random_ids
from glmserve.golden.reference import Reference
from glmserve.model_config import read_model_config
from glmserve.runner.inspection import InspectableRunner
from support.compiled import compile_model, load_compiled


@pytest.mark.parametrize(
    ("runtime", "attention"), [("onnx", "lanes"), ("openvino", "lanes"), ("openvino", "paged")]
)
@pytest.mark.parametrize("name", ["glm2_base", "glm2_res_post_ln"])
def test_all_tensors_are_right(
    golden_models: Path,
    tmp_path: Path,
    runtime: GraphTarget,
    attention: GraphAttention,
    name: str,
) -> None:
    source = golden_models / name
    folder = compile_model(
        source, tmp_path / "compiled", runtime, attention, inspectable=True, dtype="float32"
    )
    runner = load_compiled(folder)
    assert isinstance(runner, InspectableRunner)
    config = read_model_config(source)
    ids = random_ids(config, 40)
    right = Reference(config, source, torch.float64, report_nothing).tensors(ids)
    found = differences(inspected_tensors(runner, ids), right, config.num_layers)
    assert len(found) == config.num_layers * 9 + 4
    assert first_beyond(found, 1e-4) is None


def test_a_folder_without_such_a_graph(golden_models: Path, tmp_path: Path) -> None:
    folder = compile_model(golden_models / "glm2_base", tmp_path / "compiled", "onnx", "lanes")
    assert not isinstance(load_compiled(folder), InspectableRunner)
