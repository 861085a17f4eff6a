"""`truncation: auto`: a conversation without its oldest turns, if it does not fit as a whole."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from glmserve.api.openai.responses.objects import Item, ResponseMessage

_INSTRUCTING = ("system", "developer")


async def shortened(
    fits: Callable[[Sequence[Item]], Awaitable[bool]], items: Sequence[Item]
) -> Sequence[Item]:
    """As many of the items as fit, from one of the user's messages on; the last turn if none fits.

    Instructions stay, wherever they are.

    Args:
        fits: whether a conversation of these items fits into the context.
    """
    turns = [n for n, item in enumerate(items) if n and _role(item) == "user"]
    if not turns:
        return items
    first, last = 0, len(turns) - 1
    while first < last:
        middle = (first + last) // 2
        if await fits(_without(items, turns[middle])):
            last = middle
        else:
            first = middle + 1
    return _without(items, turns[first])


def _without(items: Sequence[Item], start: int) -> list[Item]:
    """The items from this index on, and the instructions before it."""
    return [item for n, item in enumerate(items) if n >= start or _role(item) in _INSTRUCTING]


def _role(item: Item) -> str | None:
    return item.role if isinstance(item, ResponseMessage) else None
