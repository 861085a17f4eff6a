"""Runs graphs that were written for vendors, by onnxruntime."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from glmserve.config import report_nothing
from glmserve.contract.step import ScheduledSequence, ScoreInput, StepInput
from glmserve.graphs.lanes import LaneModel
from glmserve.graphs.manifest import read_manifest
from glmserve.graphs.onnx_builder import OnnxBuilder
from glmserve.graphs.onnx_dialect import TVM
from glmserve.graphs.onnxruntime import OnnxRuntime
from glmserve.graphs.parameters import store_parameters
from glmserve.graphs.vendor.compass_graph import save_whole_graph
from glmserve.graphs.weights_file import WEIGHTS_FILE, WeightsFile
from glmserve.model_config import read_model_config
from glmserve.models.weights import load_weights
from glmserve.ops.rope import rope_table

Array = NDArray[np.float32]


def lane_model(folder: Path) -> LaneModel:
    """A folder for Vastai, its operator defined within its graphs."""
    copy = Path(tempfile.mkdtemp(dir=folder.parent))
    shutil.copytree(folder, copy, dirs_exist_ok=True)
    for path in copy.glob("*.onnx"):
        _define_operator(path)
    model, manifest = read_model_config(folder), read_manifest(folder)
    return LaneModel(copy, manifest, model, [OnnxRuntime("CPUExecutionProvider", 1)])


def _define_operator(path: Path) -> None:
    """QuantizedLinearPerChannel(x, codes, scales) = x @ (codes * scales)^T: what the published
    code computes where it does not export (extract_weight_to_half in quantization_vacc.py)."""
    import onnx
    from onnx import helper

    model = onnx.load(path, load_external_data=False)
    nodes = [
        helper.make_node("CastLike", ["codes", "scales"], ["numbers"]),
        helper.make_node("Constant", [], ["last"], value_ints=[-1]),
        helper.make_node("Unsqueeze", ["scales", "last"], ["columns"]),
        helper.make_node("Mul", ["numbers", "columns"], ["weight"]),
        helper.make_node("Transpose", ["weight"], ["turned"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "turned"], ["y"]),
    ]
    function = helper.make_function(
        "Vastai",
        "QuantizedLinearPerChannel",
        ["x", "codes", "scales"],
        ["y"],
        nodes,
        [helper.make_opsetid("", 17)],
    )
    model.functions.append(function)
    onnx.save(model, path)


def lane_logits(model: LaneModel, ids: list[int]) -> Array:
    """Logits of all tokens: the prompt's but the last three by the base graph, then one by one."""
    table = np.array([1], np.int32).tobytes()
    sizes = [len(ids) - 3, 1, 1, 1]
    rows, start = [], 0
    for size in sizes:
        new = ids[start : start + size]
        score = ScoreInput([0] * size, 0)
        step = StepInput(0, [ScheduledSequence(0, new, start, table, None, score)])
        rows.append(model.logits(model.run(step).hidden).numpy())
        start += size
    return np.concatenate(rows)


def whole_logits(checkpoint: Path, ids: list[int], padding: int) -> Array:
    """Logits of ids by the graph of a whole context, padded on the left as the vendor does."""
    import onnx
    import onnxruntime

    model, length = read_model_config(checkpoint), len(ids) + padding
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = WeightsFile(folder / WEIGHTS_FILE, torch.float32, "transposed")
        with closing(file), torch.inference_mode():
            parameters = load_weights(
                model, checkpoint, torch.float32, torch.device("cpu"), report_nothing
            )
            weights = store_parameters(parameters, model, file, None)
            rotations = rope_table(model.rope, length, torch.device("cpu"))
            weights["rope.table"] = file.add(torch.view_as_real(rotations))
        builder = OnnxBuilder(weights, "float32", dialect=TVM)
        save_whole_graph(builder, model, length, folder / "model.onnx")
        onnx.checker.check_model(folder / "model.onnx", full_check=True)
        session = onnxruntime.InferenceSession(folder / "model.onnx")
        inputs = {
            "input_ids": [0] * padding + ids,
            "position_ids": [0] * padding + [*range(len(ids))],
            "attention_mask": [0] * padding + [1] * len(ids),
        }
        arrays = {key: np.array([value]) for key, value in inputs.items()}
        logits: Array = session.run(["logits"], arrays)[0]
    return logits[0, padding:]
