"""Measures a model: the accuracy that quantisation costs, and the time that texts take."""

from glmserve.evaluation.cost import Cost, compare
from glmserve.evaluation.scoring import Reading, score
from glmserve.evaluation.texts import Window, conversation_windows, text_windows
from glmserve.evaluation.throughput import Timing, generate

__all__ = [
    "Cost",
    "Reading",
    "Timing",
    "Window",
    "compare",
    "conversation_windows",
    "generate",
    "score",
    "text_windows",
]
