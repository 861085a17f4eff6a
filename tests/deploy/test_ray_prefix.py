"""deploy/ray/prefix.py: which requests are of one session."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

PATH = Path(__file__).parents[2] / "deploy" / "ray" / "prefix.py"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("prefix", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PREFIX = load()


def session(**body: Any) -> str:
    found: str = PREFIX.session_of({}, json.dumps(body).encode())
    return found


def said(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


def test_turns_of_a_conversation_are_of_one_session() -> None:
    first = [said("system", "Be brief."), said("user", "Hello")]
    later = [*first, said("assistant", "Hi"), said("user", "More")]
    assert session(messages=first) == session(messages=later) != ""
    assert session(input="Hello") == session(input=[said("user", "Hello"), said("user", "More")])


def test_other_conversations_are_of_others() -> None:
    system = said("system", "Be brief.")
    sessions = {session(messages=[system, said("user", text)]) for text in ("a", "b", "c")}
    assert len(sessions) == 3
    assert session(system="x", messages=[said("user", "a")]) not in sessions


@pytest.mark.parametrize("field", ["prompt", "input"])
def test_questions_about_one_text_are_of_one_session(field: str) -> None:
    text = "once upon a time " * 20
    assert session(**{field: text + "Who?"}) == session(**{field: text + "Why?"})
    assert session(**{field: "Who?"}) != session(**{field: "Why?"})


def test_parts_and_tokens_count() -> None:
    parts = [{"type": "text", "text": "Hello"}]
    assert session(messages=[said("user", parts)]) != session(messages=[said("user", [])])
    assert session(prompt=[1, 2, 3]) != session(prompt=[1, 2, 4])


def test_the_client_decides() -> None:
    bodies = [{"messages": [said("user", text)], "prompt_cache_key": "mine"} for text in "ab"]
    assert session(**bodies[0]) == session(**bodies[1])
    yours = [PREFIX.session_of({"x-session-id": "yours"}, text) for text in (b"", b"{}")]
    assert yours[0] == yours[1] != session(**bodies[0])


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"{}", b"[" * 100_000])
def test_any_replica_may_say_what_is_wrong(body: bytes) -> None:
    assert PREFIX.session_of({}, body) == ""


def test_a_session_is_a_digest_whatever_the_text_has() -> None:
    assert len(session(prompt="\ud800")) == 64
