"""Versions of ONNX, for readers that do not know the newest one."""

from __future__ import annotations

from typing import NamedTuple


class OnnxDialect(NamedTuple):
    """What a reader of a graph knows."""

    opset: int
    ir_version: int
    """Of the file format; each opset needs one."""
    has_vastai_operators: bool = False
    """Products with int8 weights are an operator in the domain Vastai."""


NEWEST = OnnxDialect(21, 10)
"""The first opset with scales for blocks of columns."""
VASTAI = OnnxDialect(17, 8, has_vastai_operators=True)
"""Known to onnx 1.14 and onnxruntime 1.13, which Vastai's flow names as requirements (README.md of
llm/chatglm2 in github.com/Vastai/VastModelZOO)."""
TVM = OnnxDialect(14, 7)
"""What torch 2.0 exports unless it is asked for another opset, as TVM's converters read it."""
