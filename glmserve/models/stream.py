"""The residual stream between two blocks of a model."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Stream(NamedTuple):
    """A sum that the next norm computes."""

    hidden: Tensor
    """[T, H]; overwritten by the sum."""
    addend: Tensor | None
    """[T, H]: the result of the last block."""

    def sum(self) -> Tensor:
        return self.hidden if self.addend is None else self.hidden.add_(self.addend)

    def packed(self) -> Tensor:
        """[2, T, H] for the next stage, not added up: so its norm computes the same bits as it
        would here."""
        assert self.addend is not None, "a stage has a layer"
        return torch.stack((self.hidden, self.addend))

    def rows(self, rows: Tensor | None) -> Stream:
        """Only these rows; None: all."""
        if rows is None:
            return self
        # On a CPU, indexing takes ten times as long.
        addend = None if self.addend is None else self.addend.index_select(0, rows)
        return Stream(self.hidden.index_select(0, rows), addend)
