"""Tools that do not exist here: they are left out, and named in a header and in the log."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from glmserve.api.answering.answer_context import AnswerContext

logger = logging.getLogger(__name__)

LEFT_OUT_HEADER = "X-Glmserve-Left-Out-Tools"
"""Types of the request's tools, and of their traces in the conversation, that the model does not
read."""


class LeftOutTools:
    """Names types of tools that are left out; the log has each type once."""

    def __init__(self) -> None:
        self._logged: set[str] = set()

    def note(self, types: Sequence[str], answer: AnswerContext) -> None:
        """Say that tools of these types, which the server knows by name, are left out."""
        if types:
            answer.headers[LEFT_OUT_HEADER] = ", ".join(types)
        for kind in types:
            if kind not in self._logged:
                self._logged.add(kind)
                logger.warning("requests have %s of other servers, which is left out", kind)
