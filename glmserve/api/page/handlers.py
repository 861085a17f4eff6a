"""GET /, /docs and their files. They need no API key: nothing of the server's is in them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from glmserve.api.http.accept import accepted
from glmserve.api.page.files import PageFile, document, page_file, version
from glmserve.api.page.headers import KEEP, REVALIDATE, SECURITY, content_policy

FILES = "/page/"
"""Prefix of the files' paths; the version and the file's name follow."""
_read: dict[tuple[str, str], PageFile] = {}
"""Files by version and name. A thread reads and compresses each of them once."""


async def page(request: Request) -> Response:
    """The page itself.

    Raises:
        HTTPException: the path ends with two slashes, so relative addresses would be others; 404.
    """
    if _path(request).endswith("//"):
        raise HTTPException(404)
    if not _path(request).endswith("/"):
        return _redirect(f"{_path(request).rpartition('/')[2]}/")
    file = await asyncio.to_thread(document, "index.html")
    return _answer(request, file, REVALIDATE | content_policy())


async def docs(request: Request) -> Response:
    """The reference of the API, which shows /openapi.json. Its viewer writes markup by itself."""
    if _path(request).endswith("/"):
        return _redirect("../docs")
    file = await asyncio.to_thread(document, "docs.html")
    return _answer(request, file, REVALIDATE | content_policy(renders_markup=True))


async def file(request: Request) -> Response:
    """A file of the page.

    Raises:
        HTTPException: there is no such file; 404.
    """
    parameters = request.path_params
    place = (parameters["version"], parameters["name"])
    found = _read.get(place) or await asyncio.to_thread(_read_file, *place)
    if found is None:
        raise HTTPException(404)
    return _answer(request, found, KEEP | content_policy())


def _read_file(of_version: str, name: str) -> PageFile | None:
    found = page_file(name) if of_version == version() else None
    if found is not None:
        _read[of_version, name] = found
    return found


def _answer(request: Request, file: PageFile, further: Mapping[str, str]) -> Response:
    """The file, or 304 if the client has it."""
    takes_gzip = any(
        one.media_type in ("gzip", "*") for one in accepted(_header(request, "accept-encoding"))
    )
    packed = file.packed if takes_gzip else None
    etag = f'"{file.digest}{"-gzip" if packed else ""}"'
    headers = {**SECURITY, **further, "ETag": etag, "Vary": "Accept-Encoding"}
    known = [tag.strip().removeprefix("W/") for tag in _header(request, "if-none-match").split(",")]
    if etag in known or "*" in known:
        return Response(status_code=304, headers=headers)
    if packed is not None:
        headers["Content-Encoding"] = "gzip"
    headers["Content-Type"] = file.media_type
    return Response(file.body if packed is None else packed, headers=headers)


def _path(request: Request) -> str:
    """The path as the client wrote it, with a proxy's prefix."""
    return (request.scope.get("raw_path") or b"/").decode("latin-1")


def _redirect(address: str) -> Response:
    """To a relative address, which any proxy leaves right. The documents' own are relative, too, so
    a document must be known by one path."""
    return RedirectResponse(address, 308)


def _header(request: Request, name: str) -> str:
    return request.headers.get(name, "")
