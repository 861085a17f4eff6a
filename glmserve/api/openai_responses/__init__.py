"""OpenAI's Responses API: items in, items out, and conversations that the server remembers."""

from glmserve.api.openai_responses.handlers import (
    create_response,
    delete_response,
    list_input_items,
    retrieve_response,
)
from glmserve.api.openai_responses.store import ResponseStore

__all__ = [
    "ResponseStore",
    "create_response",
    "delete_response",
    "list_input_items",
    "retrieve_response",
]
