"""Computes the masks of constrained tokens while the device runs the model."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from glmserve.errors import GlmserveError
from glmserve.process.tracebacks import origin
from glmserve.request import Request

logger = logging.getLogger(__name__)

Mask = bytes | GlmserveError
"""A token's mask, or why there is none."""

_AT_ONCE = 200e-6
"""Seconds of masks that are computed on the event loop: less than a thread takes to be heard."""
_MEMORY = 0.9
"""How much of what a mask took so far counts in what the next one is expected to take."""


class GrammarMaskWorker:
    """Few and simple masks are computed at once, others on a thread.

    The thread is its own: the loop's other threads may be busy with long texts.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="masks")
        self._expected = 1e-3  # seconds per mask

    def start(self, requests: Sequence[Request]) -> asyncio.Future[list[Mask]]:
        """The masks of the requests' next tokens, in order; empty for requests that have ended."""
        loop = asyncio.get_running_loop()
        if len(requests) * self._expected > _AT_ONCE:
            return loop.run_in_executor(self._thread, self._compute, requests)
        masks: asyncio.Future[list[Mask]] = loop.create_future()
        masks.set_result(self._compute(requests))
        return masks

    def close(self) -> None:
        self._thread.shutdown(wait=False)

    def _compute(self, requests: Sequence[Request]) -> list[Mask]:
        begin = time.perf_counter()
        masks = [_mask(request) for request in requests]
        taken = (time.perf_counter() - begin) / len(requests)
        self._expected = _MEMORY * self._expected + (1 - _MEMORY) * taken
        return masks


def _mask(request: Request) -> Mask:
    assert request.constraint is not None
    if request.status.is_finished:
        return b""
    try:
        return request.constraint.allowed()
    except GlmserveError as error:
        return error
    except Exception as error:  # a bug, or a limit that nobody knew; all others' streams go on
        logger.error("a constraint failed: %s", origin(error))
        return GlmserveError("the structure of the response could not be followed")
