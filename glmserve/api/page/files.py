"""The files of the page: from the package, read once, compressed where that helps."""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from glmserve.api.page.modules import needed_modules

PACKAGE = Path(__file__).parents[2]
WEB = PACKAGE / "web"
GUIDE = PACKAGE / "guide"

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".md": "text/markdown; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
"""Media types by suffix, whatever the machine's own table says."""
_UNKNOWN = "application/octet-stream"
_PACKED = {".woff2", ".png"}
"""Suffixes of files that are compressed by themselves."""

STYLES = "style/page.css"
"""All styles of the page in one file, because a browser draws nothing before it has them all."""
_PARTS_OF_STYLES = tuple(f"style/{n}.css" for n in ("base", "shell", "chat", "prose", "board"))


@dataclass(frozen=True)
class PageFile:
    """One file as it is sent.

    Attributes:
        body: its bytes.
        packed: its bytes in gzip; None: no smaller.
        media_type: with the charset of text.
        digest: of its bytes.
    """

    body: bytes
    packed: bytes | None
    media_type: str
    digest: str


def page_file(name: str) -> PageFile | None:
    """STYLES, or the file of this name below `web`, or below `guide` as `guide/NAME`.

    None if there is none.
    """
    if name == STYLES:
        return _styles()
    path = _paths().get(name)
    return _read(path) if path is not None else None


@cache
def version() -> str:
    """Digest of all names and bytes, in 16 hexadecimal digits. Part of the files' URLs, so that a
    browser may keep each of them for ever."""
    total = hashlib.blake2b(digest_size=8)
    for name, path in sorted(_paths().items()):
        total.update(f"{name}\0{path.stat().st_size}\0".encode())
        total.update(path.read_bytes())
    return total.hexdigest()


@cache
def document(name: str) -> PageFile:
    """An HTML file of `web`, which names its files as `{files}/NAME`.

    `{modules}` stands for the modules that the page needs at first: a browser that reads of each
    only in another one would ask for them one after another. They come after the styles.

    Raises:
        FileNotFoundError: there is none.
    """
    modules = needed_modules("app/main.js", lambda module: _paths()[module].read_text())
    links = "\n".join(
        f'<link rel="modulepreload" fetchpriority="low" href="{{files}}/{path}">'
        for path in modules
    )
    text = (WEB / name).read_text().replace("{modules}", links)
    return _packed(text.replace("{files}", f"page/{version()}").encode(), ".html")


@cache
def _paths() -> dict[str, Path]:
    """Every file by the name in its URL. What is not listed here cannot be asked for."""
    return dict(sorted([*_below(WEB), *((f"guide/{name}", p) for name, p in _below(GUIDE))]))


def _below(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix != ".html":
            yield path.relative_to(folder).as_posix(), path


@cache
def _read(path: Path) -> PageFile:
    return _packed(path.read_bytes(), path.suffix)


@cache
def _styles() -> PageFile:
    return _packed(b"".join(_paths()[name].read_bytes() for name in _PARTS_OF_STYLES), ".css")


def _packed(body: bytes, suffix: str) -> PageFile:
    packed = None if suffix in _PACKED else gzip.compress(body, 9, mtime=0)
    if packed is not None and len(packed) >= len(body):
        packed = None
    media_type = _TYPES.get(suffix) or mimetypes.guess_type(f"x{suffix}")[0] or _UNKNOWN
    return PageFile(body, packed, media_type, hashlib.blake2b(body, digest_size=8).hexdigest())
