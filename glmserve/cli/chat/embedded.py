"""A chat with a model of this process."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from glmserve.embedded.llm import LLM
from glmserve.embedded.results import ChatChunk


class EmbeddedModel:
    """A model in a worker process of its own.

    Args:
        options: of the command.

    Raises:
        StartupError: it cannot be loaded.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self._llm = LLM.of_command(options)

    @property
    def description(self) -> str:
        """What a user is talking to."""
        server = self._llm.server.context
        return f"{server.config.served_model_name} on {server.engine.info.device}"

    def stream(self, request: dict[str, Any]) -> Iterator[ChatChunk]:
        """What is new in an answer, as it comes. Leaving the loop ends the generation.

        Raises:
            GlmserveError: the request cannot be honoured, or the generation failed.
        """
        fields = dict(request)
        return self._llm.stream_chat(fields.pop("messages"), **fields)

    def close(self) -> None:
        """End the worker process."""
        self._llm.close()
