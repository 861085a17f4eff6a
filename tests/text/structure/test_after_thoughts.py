"""Thoughts are free, what follows them is not, and no token belongs to both."""

from __future__ import annotations

import pytest

from glmserve.text.structure.after_thoughts import AfterThoughts, ThoughtMasks, ThoughtRules

TOKENS = [
    *(b"a", b"<", b"/", b"think", b">", b"{", b"\n"),
    *(b"</think>", b"</think>\n\n", b"</think>{", b">\n", b">{", b"think>x", b"k>", b"<end>", b""),
]
ID = {token: index for index, token in enumerate(TOKENS)}
CLOSING = (ID[b"</think>"], ID[b"\n"])


class Inner:
    """Allows one token, and then the end."""

    def __init__(self) -> None:
        self.accepted: list[int] = []

    @property
    def is_finished(self) -> bool:
        return bool(self.accepted)

    def allowed(self) -> bytes:
        return b"\x20\x00"

    def accept(self, token_id: int) -> None:
        self.accepted.append(token_id)


def after(*tokens: bytes, **rules: object) -> tuple[AfterThoughts, Inner]:
    inner = Inner()
    options = ThoughtRules(CLOSING, **rules)  # type: ignore[arg-type]
    constraint = AfterThoughts(inner, ThoughtMasks(TOKENS), options)
    for token in tokens:
        constraint.accept(ID[token])
    return constraint, inner


def allowed(constraint: AfterThoughts) -> set[bytes]:
    mask = int.from_bytes(constraint.allowed(), "little")
    return {token for index, token in enumerate(TOKENS) if mask >> index & 1}


EVERY = set(TOKENS) - {b""}


@pytest.mark.parametrize(
    ("begun", "refused"),
    [
        ([], {b"</think>{"}),
        ([b"a", b"<", b"a"], {b"</think>{"}),
        ([b"<", b"/", b"think"], {b"</think>{", b">{"}),
        ([b"</think>"[:1], b"/"], {b"</think>{", b"think>x"}),
        ([b"<", b"<", b"/", b"think"], {b"</think>{", b">{"}),
    ],
)
def test_no_token_ends_thoughts_and_begins_the_answer(
    begun: list[bytes], refused: set[bytes]
) -> None:
    constraint, inner = after(*begun)
    assert allowed(constraint) == EVERY - refused
    assert not constraint.is_finished
    assert inner.accepted == []


@pytest.mark.parametrize(
    "close", [[b"</think>"], [b"</think>\n\n"], [b"<", b"/", b"think", b">\n"]]
)
def test_the_structure_begins_behind_them(close: list[bytes]) -> None:
    constraint, inner = after(b"a", *close)
    assert allowed(constraint) == {b"{"}
    constraint.accept(ID[b"{"])
    assert inner.accepted == [ID[b"{"]]
    assert constraint.is_finished


def test_space_that_belongs_to_the_structure() -> None:
    constraint, _ = after(keeps_space=True)
    assert allowed(constraint) == EVERY - {b"</think>{", b"</think>\n\n"}


def test_a_budget() -> None:
    constraint, _ = after(b"a", budget=2)
    assert len(allowed(constraint)) > 1
    constraint.accept(ID[b"a"])
    assert allowed(constraint) == {b"</think>"}
    constraint.accept(ID[b"</think>"])
    assert allowed(constraint) == {b"{"}
    inside, _ = after(b"a", b"<", b"/", budget=3)
    assert allowed(inside) == {b"</think>"}
