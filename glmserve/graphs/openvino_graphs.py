"""Writes the graphs of OpenVINO's paged attention."""

from __future__ import annotations

from pathlib import Path

from glmserve.graphs import names
from glmserve.graphs.openvino_builder import OpenVinoBuilder
from glmserve.graphs.openvino_paged import save_output_layer, save_paged_graph
from glmserve.graphs.weights_file import WEIGHTS_FILE, StoredWeights
from glmserve.model_config import ModelConfig


def write_openvino_graphs(model: ModelConfig, weights: StoredWeights, folder: Path) -> list[str]:
    """Write the graphs; OpenVINO stores the weights beside each, so the weights file is removed.

    Returns the names of all files.
    """
    path = folder / WEIGHTS_FILE
    builder = OpenVinoBuilder(weights, path)
    save_paged_graph(builder, model, folder / names.PAGED)
    save_output_layer(builder, model, folder / names.OUTPUT_LAYER)
    path.unlink()
    graphs = (names.PAGED, names.OUTPUT_LAYER)
    return [name for graph in graphs for name in (graph, Path(graph).with_suffix(".bin").name)]
