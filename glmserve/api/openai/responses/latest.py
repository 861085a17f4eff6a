"""The newest response of one connection, which the next one may continue without a store."""

from __future__ import annotations

from glmserve.api.openai.responses.store import StoredResponse


class LatestResponse:
    """Holds one response, as OpenAI's WebSocket mode does."""

    def __init__(self) -> None:
        self._id: str | None = None
        self._response: StoredResponse | None = None

    def keep(self, response_id: str, response: StoredResponse) -> None:
        """Hold this one."""
        self._id, self._response = response_id, response

    def find(self, response_id: str) -> StoredResponse | None:
        """The response, if it is the one that is held."""
        return self._response if response_id == self._id else None

    def forget(self, response_id: str | None) -> None:
        """Forget it, if it is the one that is held."""
        if response_id == self._id:
            self._id = self._response = None
