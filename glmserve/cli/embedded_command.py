"""Commands that ask a server in their own process."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from glmserve.errors import GlmserveError, StartupError


def run_to_end(work: Coroutine[Any, Any, int]) -> int:
    """Run a command's work; returns its exit code.

    Raises:
        StartupError: it cannot start, or a request failed as it would in a server. Of several
            requests, the message says which one it was.
    """
    try:
        return asyncio.run(work)
    except StartupError:
        raise
    except GlmserveError as error:
        notes = "".join(f" ({note}, counted from 0)" for note in getattr(error, "__notes__", ()))
        raise StartupError(error.message + notes) from None
