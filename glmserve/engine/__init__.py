"""The loop that turns requests into tokens, and the streams those tokens arrive on."""

from glmserve.engine.engine import Engine, EngineState
from glmserve.engine.token_stream import TokenStream

__all__ = ["Engine", "EngineState", "TokenStream"]
