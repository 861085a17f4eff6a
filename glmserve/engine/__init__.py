"""The loop that turns requests into tokens, and the streams those tokens arrive on."""

from glmserve.engine.engine import Engine, EngineState, Standing, Variant
from glmserve.engine.open_streams import EngineObserver
from glmserve.engine.token_stream import NewTokens, TokenStream

__all__ = [
    "Engine",
    "EngineObserver",
    "EngineState",
    "NewTokens",
    "Standing",
    "TokenStream",
    "Variant",
]
