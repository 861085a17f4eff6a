"""What smaller numbers cost in accuracy: a text, read by the same model in several ways."""

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
