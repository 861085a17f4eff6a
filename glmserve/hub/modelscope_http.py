"""Requests to ModelScope, by Python's own HTTP client. Proxies are those of the environment."""

from __future__ import annotations

from http.client import HTTPException, HTTPMessage
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from glmserve.hub.statuses import meaning

_TIMEOUT = 60.0
"""Seconds without a byte."""
_TOKEN = "Cookie"
"""Header of the user's token."""


class ModelScopeClient:
    """Opens addresses, with the user's token if there is one.

    Args:
        token: for private models.
    """

    def __init__(self, token: str | None) -> None:
        self._headers = {"User-Agent": "glmserve"}
        if token:
            self._headers[_TOKEN] = f"m_session_id={token}"
        self._opener = build_opener(_KeepsTokenAtHome)

    def open(self, url: str, first_byte: int = 0) -> Any:
        """The response, which the caller closes.

        Args:
            first_byte: that is wanted; the response's status is 206 if it begins there.

        Raises:
            HTTPError, URLError, OSError, HTTPException: it cannot be had.
        """
        more = {"Range": f"bytes={first_byte}-"} if first_byte else {}
        return self._opener.open(Request(url, headers={**self._headers, **more}), timeout=_TIMEOUT)


def reason_of(error: Exception) -> str:
    """Why a request has failed, in one line."""
    if isinstance(error, HTTPError):
        error.close()
        return meaning(error.code, "MODELSCOPE_API_TOKEN")
    text = str(error.reason if isinstance(error, URLError) else error)
    return " ".join(text.split())[:300]


def is_network(error: Exception) -> bool:
    """Whether the connection has failed, so that another one may help."""
    return isinstance(error, ConnectionError | TimeoutError | HTTPException | URLError)


class _KeepsTokenAtHome(HTTPRedirectHandler):
    """Sends the token to no other host than the one that was asked: large files are elsewhere."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        before, after = urlsplit(req.full_url), urlsplit(newurl)
        is_safe = after.scheme in (before.scheme, "https") and after.hostname == before.hostname
        if request is not None and not is_safe:
            request.remove_header(_TOKEN)
        return request
