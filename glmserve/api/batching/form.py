"""The form that uploads a file: its file goes to the disk piece by piece, whatever its size."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field

from starlette.requests import Request

from glmserve.api.batching.multipart import (
    Event,
    MultipartParser,
    PartBegin,
    PartData,
    boundary_of,
)
from glmserve.batches.errors import StorageError
from glmserve.batches.upload import Upload
from glmserve.errors import InvalidRequestError

FILE = "file"
_FIELDS = ("purpose", "expires_after[anchor]", "expires_after[seconds]")
_LONGEST_FIELD = 200  # bytes
_LONGEST_NAME = 255  # characters


@dataclass
class UploadForm:
    """What a form says."""

    fields: dict[str, str] = field(default_factory=dict)
    filename: str | None = None
    """None: there is no file."""


class _FormReader:
    """Writes the file, and keeps the other fields."""

    def __init__(self, upload: Upload) -> None:
        self.form = UploadForm()
        self._upload = upload
        self._name = ""
        self._value = bytearray()

    def take(self, event: Event) -> None:
        """Take the next event.

        Raises:
            InvalidRequestError: the form has something that means nothing here.
            FileTooLargeError, OSError: see Upload.write.
        """
        match event:
            case PartBegin(name, filename):
                self._begin(name, filename)
            case PartData(data) if self._name == FILE:
                self._upload.write(data)
            case PartData(data):
                self._value += data
                if len(self._value) > _LONGEST_FIELD:
                    raise InvalidRequestError(f"{self._name} is too long", self._name)
            case _ if self._name != FILE:
                self.form.fields[self._name] = self._value.decode("utf-8", "replace")

    def _begin(self, name: str, filename: str | None) -> None:
        shown = name[:100]
        if name in self.form.fields or (name == FILE and self.form.filename is not None):
            raise InvalidRequestError(f"the form has {shown} twice", shown)
        if name == FILE:
            if filename is None:
                raise InvalidRequestError("file must be a file, with a filename", FILE)
            self.form.filename = _label(filename)
        elif name not in _FIELDS:
            raise InvalidRequestError(
                f"{shown!r} is not supported by this server; leave it out", shown
            )
        self._name = name
        self._value.clear()


async def read_form(request: Request, upload: Upload) -> UploadForm:
    """Read the form; its file goes into the upload.

    Raises:
        InvalidRequestError: the form is malformed, or has what means nothing here.
        FileTooLargeError: see Upload.write.
        StorageError: the disk does not take the file.
        ClientDisconnect: the client left in the middle of it.
    """
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise InvalidRequestError("Content-Encoding is not supported here; send the form plain")
    parser = MultipartParser(boundary_of(request.headers.get("content-type", "")))
    reader = _FormReader(upload)

    def take(chunk: bytes) -> None:
        for event in parser.feed(chunk):
            reader.take(event)

    try:
        async for chunk in request.stream():
            await asyncio.to_thread(take, chunk)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise StorageError(f"this server cannot store the file now: {reason}") from None
    request.state.body_was_read = True  # for `UnreadBodyMiddleware`
    if not parser.is_complete:
        raise InvalidRequestError("the form ends in the middle")
    if reader.form.filename is None:
        raise InvalidRequestError("file is required", FILE)
    return reader.form


def _label(filename: str) -> str:
    """What the file is called in answers: the last part of a path, without what cannot be read."""
    last = re.split(r"[/\\]", filename)[-1]
    readable = "".join(character for character in last if character.isprintable())
    return readable[:_LONGEST_NAME] or "file"
