"""Names of the graphs' files in a compiled folder."""

from __future__ import annotations

BASE = "base"
HEAD = "head.onnx"
PAGED = "paged.xml"
INSPECTION = "inspection.onnx"
"""The base graph with all tensors of the model as outputs."""

HEAD_ROWS = 32
"""Rows of the head graph. Only log-probabilities of prompts need it."""


def incremental(lanes: int) -> str:
    """The incremental graph of so many lanes."""
    return f"incremental-{lanes}"


def parts(graph: str, count: int) -> list[str]:
    """The files of a graph that is cut into parts."""
    if count == 1:
        return [f"{graph}.onnx"]
    return [f"{graph}.part-{i}-of-{count}.onnx" for i in range(1, count + 1)]
