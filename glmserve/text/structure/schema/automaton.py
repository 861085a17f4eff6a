"""Small automata on sets of characters: the complement of a regular expression, as another one.

A regular expression becomes a nondeterministic automaton (Thompson's construction), this a
deterministic one (subset construction), and what it does not accept a regular expression again
(Brzozowski and McCluskey's elimination of states).
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

MAX_STATES = 40
"""Of a deterministic automaton. The expression grows with it."""
_MAX_LENGTH = 20_000
"""Characters of an expression."""
_MAX_READ = 2000
"""States of a nondeterministic automaton."""
LAST = 0x10FFFF
"""The largest code point."""

CharSet = tuple[tuple[int, int], ...]
"""First and last code points of ranges, in order and apart from each other."""
ALL: CharSet = ((0, LAST),)


class TooLargeError(ValueError):
    """The automaton or the expression becomes too large."""


class Automaton:
    """A nondeterministic automaton. State 0 is the start."""

    def __init__(self) -> None:
        self._num_states = 1
        self._steps: dict[int, list[tuple[CharSet, int]]] = {}
        self._free: dict[int, list[int]] = {}

    def new_state(self) -> int:
        """
        Raises:
            TooLargeError: there are too many.
        """
        if self._num_states == _MAX_READ:
            raise TooLargeError
        self._num_states += 1
        return self._num_states - 1

    def add_step(self, source: int, chars: CharSet, target: int) -> None:
        """A step that reads one of these characters."""
        self._steps.setdefault(source, []).append((chars, target))

    def add_free(self, source: int, target: int) -> None:
        """A step that reads nothing."""
        self._free.setdefault(source, []).append(target)

    def complement(self, accepting: int, absorbing: int) -> str | None:
        """A regular expression of the texts that end in neither of two states; None if all do.

        Args:
            absorbing: a state that is never left.

        Raises:
            TooLargeError: see above.
        """
        states, edges = self._determinised(absorbing)
        good = [i for i, state in enumerate(states) if state.isdisjoint((accepting, absorbing))]
        return _expression(good, edges)

    def _determinised(
        self, absorbing: int
    ) -> tuple[list[frozenset[int]], dict[tuple[int, int], CharSet]]:
        """States, the start first, and what leads from one to the other."""
        start = self._closure({0})
        index, states = {start: 0}, [start]
        edges: dict[tuple[int, int], CharSet] = {}
        for number, state in enumerate(states):
            steps = [step for one in state for step in self._steps.get(one, ())]
            for span in _spans(chars for chars, _ in steps):
                reached = {target for chars, target in steps if _has(chars, span[0])}
                target = self._closure(reached)
                target = frozenset((absorbing,)) if absorbing in target else target
                if target not in index:
                    index[target] = len(states)
                    states.append(target)
                    if len(states) > MAX_STATES:
                        raise TooLargeError
                edge = number, index[target]
                edges[edge] = union((*edges.get(edge, ()), span))
        return states, edges

    def _closure(self, states: set[int]) -> frozenset[int]:
        pending, found = list(states), set(states)
        while pending:
            for target in self._free.get(pending.pop(), ()):
                if target not in found:
                    found.add(target)
                    pending.append(target)
        return frozenset(found)


def union(ranges: Iterable[tuple[int, int]]) -> CharSet:
    """The set of all these ranges."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = merged[-1][0], max(last, merged[-1][1])
        else:
            merged.append((first, last))
    return tuple(merged)


def inverted(chars: CharSet) -> CharSet:
    """All other characters."""
    bounds = [(-1, -1), *chars, (LAST + 1, LAST + 1)]
    return tuple((a[1] + 1, b[0] - 1) for a, b in pairwise(bounds) if a[1] + 1 < b[0])


def _has(chars: CharSet, code: int) -> bool:
    return any(first <= code <= last for first, last in chars)


def _spans(sets: Iterable[CharSet]) -> list[tuple[int, int]]:
    """All characters, in ranges within which no set ends or begins."""
    cuts = {0, LAST + 1}
    for chars in sets:
        for first, last in chars:
            cuts |= {first, last + 1}
    return [(first, end - 1) for first, end in pairwise(sorted(cuts))]


_Edges = dict[tuple[int, int], str]


def _expression(good: list[int], edges: dict[tuple[int, int], CharSet]) -> str | None:
    """What leads from state 0 to any of the good states."""
    useful = _leading_to(good, edges)
    if 0 not in useful:
        return None
    start, end = -1, -2
    known = {key: _class(chars) for key, chars in edges.items() if useful.issuperset(key)}
    known |= {(state, end): "" for state in good}
    known[start, 0] = ""
    while useful:
        state = min(useful, key=lambda one: _cost(one, known))
        useful.remove(state)
        _eliminate(state, known)
    return known[start, end]


def _leading_to(good: list[int], edges: Iterable[tuple[int, int]]) -> set[int]:
    """The states from which a good state can be reached."""
    found = set(good)
    while new := {source for source, target in edges if target in found} - found:
        found |= new
    return found


def _cost(state: int, edges: _Edges) -> int:
    into = [text for (_, target), text in edges.items() if target == state]
    out = [text for (source, _), text in edges.items() if source == state]
    return sum(len(one) + len(other) for one in into for other in out)


def _eliminate(state: int, edges: _Edges) -> None:
    """Replace a state by direct ways between its neighbours.

    Raises:
        TooLargeError: a way becomes too long.
    """
    loop = edges.pop((state, state), None)
    middle = f"(?:{loop})*" if loop else ""
    into = [(source, edges.pop((source, t))) for source, t in list(edges) if t == state]
    out = [(target, edges.pop((s, target))) for s, target in list(edges) if s == state]
    for source, first in into:
        for target, last in out:
            way = f"{_grouped(first)}{middle}{_grouped(last)}"
            other = edges.get((source, target))
            edges[source, target] = way if other is None else f"{other}|{way}"
            if len(edges[source, target]) > _MAX_LENGTH:
                raise TooLargeError


def _grouped(text: str) -> str:
    return f"(?:{text})" if "|" in text else text


def _class(chars: CharSet) -> str:
    """A character class, as short as it can be."""
    if chars == ALL:
        return "[^]"
    others = inverted(chars)
    negation, listed = ("^", others) if len(others) <= len(chars) else ("", chars)
    ends = (first if first == last else (first, last) for first, last in listed)
    return f"[{negation}{''.join(map(_range, ends))}]"


def _range(ends: int | tuple[int, int]) -> str:
    codes = ends if isinstance(ends, tuple) else (ends,)
    return "-".join(rf"\u{{{code:x}}}" for code in codes)
