"""One content of an adapter, under the name by which requests choose it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from glmserve.contract.adapter import AdapterSource


@dataclass(frozen=True)
class AdapterVersion:
    """An adapter's name, and one content that it has or had. Requests keep the version that the
    name had when they came."""

    name: str
    kind: str
    """As in glmserve.adapters: lora, prefix-tuning or p-tuning-v2."""
    source: AdapterSource

    @property
    def id(self) -> int:
        return self.source.id

    @property
    def digest(self) -> str:
        return self.source.digest

    @property
    def folder(self) -> Path:
        return Path(self.source.folder)

    @property
    def salt(self) -> bytes:
        """In front of the salt of the prefix cache: K/V are shared only under the same content.

        The byte 255 occurs in no text in UTF-8, so this never reads like a salt without adapter.
        """
        return b"\xff" + self.digest.encode() + b"\xff"
