"""Thoughts are told from the answer, however the text is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmserve.text.thoughts import ThoughtCounter, ThoughtSplitter, begins_in_thoughts
from support.fakes import ByteTokenizer


def split(pieces: list[str], **options: bool) -> tuple[str, str]:
    splitter = ThoughtSplitter(**{"is_open": True, **options})
    found = [*map(splitter.push, pieces), splitter.flush()]
    thoughts, answers = zip(*found, strict=True)
    return "".join(thoughts), "".join(answers)


@pytest.mark.parametrize(
    ("text", "thoughts", "answer"),
    [
        ("\nIt is 4.\n</think>\n\n4.\n", "It is 4.", "4.\n"),
        ("<think>\nIt is 4.</think>4", "It is 4.", "4"),
        ("cut off", "cut off", ""),
        ("cut </thi", "cut </thi", ""),
        ("", "", ""),
        ("</think>\nno thoughts", "", "no thoughts"),
        ("a < b </thin> c</think>d</think>e", "a < b </thin> c", "d</think>e"),
    ],
)
def test_open_thoughts(text: str, thoughts: str, answer: str) -> None:
    assert split([text]) == (thoughts, answer)
    assert split(list(text)) == (thoughts, answer)


@pytest.mark.parametrize(
    ("text", "thoughts", "answer"),
    [
        ("<think>\nHm.\n</think>\nYes", "Hm.", "Yes"),
        (" \n<think>Hm.", "Hm.", ""),
        (" plain <think>x</think>", "", " plain <think>x</think>"),
        ("<thin", "", "<thin"),
        ("  ", "", "  "),
    ],
)
def test_the_model_opens_them(text: str, thoughts: str, answer: str) -> None:
    assert split(list(text), is_open=False) == (thoughts, answer)


def test_space_may_belong_to_the_answer() -> None:
    assert split(["x</think>", "\n", " y"], keeps_space=True) == ("x", "\n y")


@given(
    text=st.lists(st.sampled_from(["<think>", "</think>", "<", "/th", "ink>", " ", "\n", "a"])),
    is_open=st.booleans(),
    data=st.data(),
)
def test_cuts_change_nothing(text: list[str], is_open: bool, data: st.DataObject) -> None:
    whole = "".join(text)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    ends = [*cuts, len(whole)]
    pieces = [whole[a:b] for a, b in zip([0, *cuts], ends, strict=True)]
    assert split(pieces, is_open=is_open) == split([whole], is_open=is_open)


def test_tokens_of_thoughts_are_counted() -> None:
    tokenizer = ByteTokenizer()
    counter = ThoughtCounter(tokenizer, is_open=True)
    for text in ("你", "好</think>", "answer"):
        counter.push(tokenizer.encode(text))
    assert counter.count == len("你好</think>".encode())
    plain = ThoughtCounter(tokenizer, is_open=False)
    plain.push(tokenizer.encode("answer"))
    assert plain.count == 0


@pytest.mark.parametrize(
    ("prompt", "begins"), [("x<think>", True), ("x<think>\n", True), ("<think></think>", False)]
)
def test_the_end_of_a_prompt(prompt: str, begins: bool) -> None:
    tokenizer = ByteTokenizer()
    assert begins_in_thoughts(tokenizer, tokenizer.encode(prompt)) == begins
