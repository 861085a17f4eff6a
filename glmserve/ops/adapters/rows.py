"""Groups the rows of a step by the slots of their adapters, on the host."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from torch import Tensor

from glmserve.ops.batch import Int64Array
from glmserve.ops.uploads import Uploads

NO_SLOT = -1
"""Of rows that the plain model computes."""


class RowGroups(NamedTuple):
    """Rows of the same slot side by side."""

    order: Int64Array
    """[n]: indices of the rows that have a slot; those of one slot in their order."""
    slots: Int64Array
    """[G]: the slots, ascending."""
    starts: Int64Array
    """[G + 1]: index in `order` of each slot's first row; then n."""


def group_rows(slots: Int64Array) -> RowGroups:
    """Group rows.

    Args:
        slots: [T], the slot of each row, or NO_SLOT.
    """
    order = np.argsort(slots, kind="stable")
    order = order[np.searchsorted(slots[order], 0) :]
    found, starts = np.unique(slots[order], return_index=True)
    return RowGroups(order, found, np.append(starts, len(order)))


class TensorGroups(NamedTuple):
    """RowGroups for operations of torch."""

    slots: list[int]
    rows: list[Tensor]
    """int64 [n] for each slot."""


def to_tensors(groups: RowGroups, uploads: Uploads) -> TensorGroups:
    """The groups on a device."""
    order = uploads.send(groups.order)
    ends = groups.starts.tolist()
    rows = [order[first:end] for first, end in pairwise(ends)]
    return TensorGroups(groups.slots.tolist(), rows)
