"""Measures the accuracy that quantisation costs: one text, predicted by variants of a model."""

from glmserve.evaluation.cost import Cost, compare
from glmserve.evaluation.scoring import Reading, score
from glmserve.evaluation.texts import Window, conversation_windows, text_windows

__all__ = [
    "Cost",
    "Reading",
    "Window",
    "compare",
    "conversation_windows",
    "score",
    "text_windows",
]
