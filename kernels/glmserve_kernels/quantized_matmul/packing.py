"""How 4-bit codes lie in memory.

K is cut into chunks of 32 columns, each 8 words of 16 bits: word j holds the columns j, j + 8,
j + 16 and j + 24, from its low bits to its high ones, in two's complement. So a chunk is one load
of 16 bytes, and what the same 4 bits of its words hold, a plane, are 8 neighbouring columns: one
load of 16 bytes of `x`. A word is as wide as the numbers that its codes become, so that the
compiler can convert two by one instruction.
"""

from __future__ import annotations

import torch
from torch import Tensor

CHUNK = 32
"""Columns that are packed together."""


def pack_int4(codes: Tensor) -> Tensor:
    """Codes -8..7, int8 [N, K], K a multiple of 32: int16 [N, K/4]."""
    first, second, third, fourth = codes.short().view(len(codes), -1, 4, CHUNK // 4).unbind(2)
    words: Tensor = (first & 15) | (second & 15) << 4 | (third & 15) << 8 | fourth << 12
    return words.flatten(1)


def unpack_int4(packed: Tensor) -> Tensor:
    """The inverse of pack_int4."""
    words = packed.view(len(packed), -1, CHUNK // 4)
    planes = [words << 12 - 4 * plane >> 12 for plane in range(4)]
    return torch.stack(planes, dim=2).flatten(1).to(torch.int8)
