"""Errors about a chat request, told to clients that have sent something else."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from glmserve.errors import InvalidRequestError


@contextmanager
def renamed_fields(names: Mapping[str, str]) -> Iterator[None]:
    """Let errors name the client's own fields.

    Args:
        names: the client's names by those of chat completions.
    """
    try:
        yield
    except InvalidRequestError as error:
        name = names.get(error.param or "")
        if error.param is None or name is None:
            raise
        # A name of letters alone may be a word of the sentence, but not in front of a colon.
        end = "(?=:)" if error.param.isalpha() else r"\b"
        message = re.sub(rf"\b{re.escape(error.param)}{end}", name, error.message)
        raise type(error)(message, name) from None
