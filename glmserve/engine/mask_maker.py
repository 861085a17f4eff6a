"""Computes the masks of constrained tokens while the device runs the model."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from glmserve.errors import GlmserveError
from glmserve.request import Request

logger = logging.getLogger(__name__)

Mask = bytes | GlmserveError
"""A token's mask, or why there is none."""


class MaskMaker:
    """A thread of its own: the loop's other threads may be busy with long texts."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="masks")

    def start(self, requests: Sequence[Request]) -> asyncio.Future[list[Mask]]:
        """The masks of the requests' next tokens, in order."""
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(self._thread, _compute, requests)

    def close(self) -> None:
        self._thread.shutdown(wait=False)


def _compute(requests: Sequence[Request]) -> list[Mask]:
    return [_mask(request) for request in requests]


def _mask(request: Request) -> Mask:
    assert request.constraint is not None
    try:
        return request.constraint.allowed()
    except GlmserveError as error:
        return error
    except Exception:  # a bug, or a limit that nobody knew; all others' streams go on
        logger.exception("a constraint failed")
        return GlmserveError("the structure of the response could not be followed")
