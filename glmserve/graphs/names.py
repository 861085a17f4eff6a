"""Names of the graphs' files in a compiled folder."""

from __future__ import annotations

BASE = "base.onnx"
HEAD = "head.onnx"
PAGED = "paged.xml"
OUTPUT_LAYER = "output-layer.xml"

HEAD_ROWS = 32
"""Rows of the head graph. Only log-probabilities of prompts need it."""


def incremental(lanes: int) -> str:
    """The incremental graph of so many lanes."""
    return f"incremental-{lanes}.onnx"
