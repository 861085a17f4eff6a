"""Which rank of a pipeline hangs, and which only wait for it."""

from __future__ import annotations

from collections.abc import Sequence


def hung_rank(steps_done: Sequence[int], width: int) -> int | None:
    """The rank that hangs in a step, if the numbers of steps tell.

    A stage that hangs has done no more steps than those after it, which get nothing from it, and
    fewer than those before it, which go on until the channel to it is full. Within a stage the
    ranks wait for each other in every layer.

    Args:
        steps_done: by each rank, stage by stage.
        width: ranks of a stage.

    Returns:
        None: that is not known.
    """
    if width > 1:
        return None
    return min(range(len(steps_done)), key=lambda stage: steps_done[stage])
