"""The OpenAI-compatible HTTP surface."""

from glmserve.api.answering.context import ServerContext
from glmserve.api.app import create_app

__all__ = ["ServerContext", "create_app"]
