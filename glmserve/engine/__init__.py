"""The loop that turns requests into tokens, and the streams that carry the tokens."""

from glmserve.engine.adapters import AdapterCatalog, AdapterVersion
from glmserve.engine.answer_tokens import AnswerTokens
from glmserve.engine.engine import ChoiceSpec, Engine, EngineState, SchedulingAttributes
from glmserve.engine.moment import Moment, RequestFacts
from glmserve.engine.open_streams import EngineObserver
from glmserve.engine.step_watch import StepWatch
from glmserve.engine.token_stream import NewTokens, TokenStream

__all__ = [
    "AdapterCatalog",
    "AdapterVersion",
    "AnswerTokens",
    "ChoiceSpec",
    "Engine",
    "EngineObserver",
    "EngineState",
    "Moment",
    "NewTokens",
    "RequestFacts",
    "SchedulingAttributes",
    "StepWatch",
    "TokenStream",
]
