"""The endpoints of the pipeline, by their paths."""

from __future__ import annotations

from typing import Any

from glmserve.api.answering.endpoint import Endpoint
from glmserve.api.anthropic.endpoint import MessagesEndpoint
from glmserve.api.openai.chat import ChatEndpoint
from glmserve.api.openai.chat_batch import ChatBatchEndpoint
from glmserve.api.openai.completions import CompletionsEndpoint
from glmserve.api.openai.embeddings import EmbeddingsEndpoint
from glmserve.api.openai.responses.endpoint import ResponsesEndpoint
from glmserve.api.openai.responses.store import ResponseStore


def answer_endpoints(store: ResponseStore) -> dict[str, Endpoint[Any]]:
    """Every endpoint by its path.

    Args:
        store: keeps responses for later requests.
    """
    endpoints: tuple[Endpoint[Any], ...] = (
        ChatEndpoint(),
        CompletionsEndpoint(),
        EmbeddingsEndpoint(),
        MessagesEndpoint(),
        ChatBatchEndpoint(),
        ResponsesEndpoint(store),
    )
    return {endpoint.path: endpoint for endpoint in endpoints}
