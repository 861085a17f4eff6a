"""Computes token masks while the device runs the model."""

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
"""A token mask, or the error that prevented it."""

_MAX_SECONDS_ON_LOOP = 200e-6
"""Masks that take at most this many seconds are computed on the event loop. Handing them to a
thread takes longer."""
_AVERAGE_DECAY = 0.9
"""Decay of the moving average of seconds per mask."""


class GrammarMaskWorker:
    """Computes quick masks at once, others on a thread.

    It has a thread of its own, because the event loop's threads may be busy with long texts.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="masks")
        self._seconds_per_mask = 1e-3  # seconds per mask

    def start(self, requests: Sequence[Request]) -> asyncio.Future[list[Mask]]:
        """Compute the masks of the requests' next tokens, in order.

        The mask of a request that has ended is empty.
        """
        loop = asyncio.get_running_loop()
        if len(requests) * self._seconds_per_mask > _MAX_SECONDS_ON_LOOP:
            return loop.run_in_executor(self._thread, self._compute, requests)
        masks: asyncio.Future[list[Mask]] = loop.create_future()
        masks.set_result(self._compute(requests))
        return masks

    def close(self) -> None:
        """Stop the thread."""
        self._thread.shutdown(wait=False)

    def _compute(self, requests: Sequence[Request]) -> list[Mask]:
        begin = time.perf_counter()
        masks = [_mask(request) for request in requests]
        taken = (time.perf_counter() - begin) / len(requests)
        self._seconds_per_mask = (
            _AVERAGE_DECAY * self._seconds_per_mask + (1 - _AVERAGE_DECAY) * taken
        )
        return masks


def _mask(request: Request) -> Mask:
    assert request.constraint is not None
    if request.status.is_finished:
        return b""
    try:
        return request.constraint.allowed()
    except GlmserveError as error:
        return error
    except Exception as error:  # a bug, or an unknown limit: only this request must fail
        logger.error("a constraint failed: %s", origin(error))
        return GlmserveError("the structure of the response could not be followed")
