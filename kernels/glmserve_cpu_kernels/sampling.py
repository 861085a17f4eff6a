"""Chooses tokens from logits: temperature, top_k, top_p, min_p and a draw, row by row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from glmserve_cpu_kernels.library import Library

DRAW = np.dtype(
    [
        ("noise_key", np.uint64),
        ("top_p", np.float64),
        ("temperature", np.float32),
        ("min_p", np.float32),
        ("top_k", np.int32),
    ],
    align=True,
)
"""`struct Draw` of src/sampling.h: temperature is more than 0."""


def draw(
    library: Library,
    logits: NDArray[np.float32],
    rows: Sequence[int],
    how: NDArray[np.void],
) -> list[int]:
    """Draw an id from each of `rows` of `logits`.

    Args:
        logits: [S, V], rows contiguous.
        rows: indices.
        how: [rows] of DRAW.

    Returns:
        Ids; -1 for a row that holds a NaN or +inf, or only -inf.
    """
    pointers = logits.ctypes.data + np.asarray(rows, dtype=np.int64) * logits.strides[0]
    ids = np.empty(len(rows), dtype=np.int32)
    library.functions.glm_draw(
        *(pointers.ctypes.data, len(rows), logits.shape[1], how.ctypes.data, ids.ctypes.data)
    )
    chosen: list[int] = ids.tolist()
    return chosen
