"""The OpenAI-compatible HTTP surface."""

from glmserve.api.app import create_app
from glmserve.api.context import ServerContext

__all__ = ["ServerContext", "create_app"]
