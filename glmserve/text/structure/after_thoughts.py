"""Structures of answers that begin with thoughts, which are free: the structure follows them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from glmserve.text.structure.vocabulary import packed_bits

_CLOSE = b"</think>"


class Constraint(Protocol):
    """What follows the thoughts; see TokenConstraint in request.py."""

    @property
    def is_finished(self) -> bool: ...

    def allowed(self) -> bytes: ...

    def accept(self, token_id: int) -> None: ...


class ThoughtRules(NamedTuple):
    """What is said about the thoughts of an answer.

    Attributes:
        closing: tokens of the text that closes thoughts.
        budget: the most tokens of thoughts; None: no limit.
        keeps_space: the structure itself may begin with whitespace, so none may stand before it.
    """

    closing: tuple[int, ...]
    budget: int | None = None
    keeps_space: bool = False


class ThoughtMasks:
    """Which tokens thoughts may consist of. A token that ends them must not begin the structure,
    which would not see that part.

    Args:
        tokens: bytes of each id; empty if it must not be generated as text.
    """

    def __init__(self, tokens: Sequence[bytes]) -> None:
        self._tokens = tokens
        self._text = _bits(tokens, (i for i, data in enumerate(tokens) if data))
        self._ending = [(i, data) for i, data in enumerate(tokens) if _CLOSE[-1:] in data]
        self._masks: dict[tuple[bytes, bool], bytes] = {}

    def data(self, token_id: int) -> bytes:
        """The text of a token."""
        return self._tokens[token_id]

    def after(self, tail: bytes, *, keeps_space: bool) -> bytes:
        """The mask of the next token of thoughts, behind a part of the closing tag."""
        key = tail, keeps_space
        if key not in self._masks:
            refused = (i for i, data in self._ending if _spills(tail + data, keeps_space))
            mask = int.from_bytes(self._text, "little")
            mask &= ~int.from_bytes(_bits(self._tokens, refused), "little")
            self._masks[key] = mask.to_bytes(len(self._text), "little")
        return self._masks[key]

    def alone(self, token_id: int) -> bytes:
        """The mask of one token."""
        return _bits(self._tokens, (token_id,))


class AfterThoughts:
    """A TokenConstraint that leaves thoughts free, and limits what follows them.

    Args:
        inner: at its beginning; of the answer behind the thoughts.
    """

    __slots__ = ("_inner", "_masks", "_num_tokens", "_rules", "_tail", "_thinks")

    def __init__(self, inner: Constraint, masks: ThoughtMasks, rules: ThoughtRules) -> None:
        self._inner = inner
        self._masks = masks
        self._rules = rules
        self._tail = b""
        """The end of the thoughts so far, as far as it may begin the closing tag."""
        self._num_tokens = 0
        self._thinks = True

    @property
    def is_finished(self) -> bool:
        return not self._thinks and self._inner.is_finished

    def allowed(self) -> bytes:
        if not self._thinks:
            return self._inner.allowed()
        rules = self._rules
        if rules.budget is not None and self._num_tokens >= rules.budget:
            return self._masks.alone(rules.closing[self._num_tokens - rules.budget])
        return self._masks.after(self._tail, keeps_space=rules.keeps_space)

    def accept(self, token_id: int) -> None:
        if not self._thinks:
            self._inner.accept(token_id)
            return
        self._num_tokens += 1
        text = self._tail + self._masks.data(token_id)
        self._thinks = _CLOSE not in text
        ends = (text[-length:] for length in range(len(_CLOSE) - 1, 0, -1))
        self._tail = next((end for end in ends if _CLOSE.startswith(end)), b"")


def _spills(text: bytes, keeps_space: bool) -> bool:
    """Whether text follows the closing tag."""
    _, _, rest = text.partition(_CLOSE)
    return bool(rest if keeps_space else rest.strip())


def _bits(tokens: Sequence[bytes], token_ids: Iterable[int]) -> bytes:
    """A mask as the engine has it."""
    return packed_bits(token_ids, len(tokens))[: (len(tokens) + 7) // 8]
