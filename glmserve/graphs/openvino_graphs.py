"""Writes the graphs of OpenVINO's paged attention."""

from __future__ import annotations

from pathlib import Path

from glmserve.graphs import names
from glmserve.graphs.openvino_builder import OpenVinoBuilder
from glmserve.graphs.openvino_paged import save_paged_graph
from glmserve.graphs.weights_file import WEIGHTS_FILE, StoredWeights
from glmserve.model_config import ModelConfig


def write_openvino_graphs(model: ModelConfig, weights: StoredWeights, folder: Path) -> list[str]:
    """Write the graph. OpenVINO stores its weights beside it, so the weights file is removed.

    Returns the names of all files.
    """
    weights_path = folder / WEIGHTS_FILE
    path = folder / names.PAGED
    save_paged_graph(OpenVinoBuilder(weights, weights_path), model, path)
    weights_path.unlink()
    return [path.name, path.with_suffix(".bin").name]
