"""Tells Chinese from other text."""

from __future__ import annotations

import re

HAN = "\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Ranges of a character class of `re`: Chinese characters, without punctuation."""

_HAN = re.compile(f"[{HAN}]")
_SHARE = 0.2


def is_chinese(text: str) -> bool:
    """Whether at least a fifth of the characters are Chinese; names and numbers may be Latin."""
    return len(_HAN.findall(text)) >= max(1, _SHARE * len(text))
