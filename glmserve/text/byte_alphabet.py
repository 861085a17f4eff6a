"""GPT-2's alphabet of bytes, in which byte-level tokenizers write their pieces."""

from __future__ import annotations

from functools import cache
from itertools import chain


@cache
def byte_alphabet() -> dict[str, int]:
    """GPT-2's printable character for each byte (bytes_to_unicode of its encoder.py).

    Printable Latin-1 characters stand for themselves, the other bytes take U+0100 and on.
    """
    printable = set(chain(range(0x21, 0x7F), range(0xA1, 0xAD), range(0xAE, 0x100)))
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = {chr(byte): byte for byte in sorted(printable)}
    return alphabet | {chr(0x100 + index): byte for index, byte in enumerate(others)}


def spelled(data: bytes) -> str:
    """The bytes, each as its character."""
    characters = _characters()
    return "".join(characters[byte] for byte in data)


@cache
def _characters() -> dict[int, str]:
    return {byte: character for character, byte in byte_alphabet().items()}
