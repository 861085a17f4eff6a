"""What the programs have in common: each does tasks with one client and prints how they ended.

A program is called with the server's URL, without /v1, and the model's name. It prints one line of
JSON per task. Its first lines name the packages it needs, and `uv run` installs them.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
import traceback
from collections.abc import Callable
from typing import Any

URL, MODEL = sys.argv[1:3]
BASE_URL = f"{URL}/v1"
QUESTION = "Is it cold outside?"
PLACES = ["here", "there"]
SKIES = ["clear", "grey"]
PLACE_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"place": {"type": "string", "enum": PLACES}},
    "required": ["place"],
    "additionalProperties": False,
}
WEATHER_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "sky": {"type": "string", "enum": SKIES},
        "degrees": {"type": "integer", "minimum": -20, "maximum": 40},
    },
    "required": ["sky", "degrees"],
    "additionalProperties": False,
}
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "Look up the weather of a place.",
        "parameters": PLACE_SCHEMA,
    },
}


class Client:
    """The tasks of one client, in the order in which they were added."""

    def __init__(self, name: str, version: str) -> None:
        self._name = name
        self._version = version
        self._tasks: list[tuple[str, str, Callable[..., Any], tuple[Any, ...]]] = []

    def add(self, api: str, works: str, do: Callable[..., Any], *arguments: Any) -> None:
        """Add a task; `works` says in the table what works if `do(*arguments)` does not raise."""
        self._tasks.append((api, works, do, arguments))

    def run(self) -> None:
        """Do all tasks, and exit with 1 if one has failed."""
        with asyncio.Runner() as loop:
            results = [self._do(loop, *task) for task in self._tasks]
        sys.exit(not all(results))

    def _do(
        self, loop: asyncio.Runner, api: str, works: str, do: Callable[..., Any], arguments: Any
    ) -> bool:
        """Whether the task did not raise."""
        line = {"client": self._name, "version": self._version, "api": api, "works": works}
        try:
            result = do(*arguments)
            if inspect.iscoroutine(result):
                loop.run(result)
        except Exception:
            line["error"] = traceback.format_exc()
        print(json.dumps(line), flush=True)
        return "error" not in line


def check_place(arguments: str | dict[str, Any]) -> None:
    """Raise unless these arguments of `look_up` fit its schema."""
    found = json.loads(arguments) if isinstance(arguments, str) else arguments
    assert set(found) == {"place"}, found
    assert found["place"] in PLACES, found


def check_weather(answer: str | dict[str, Any]) -> None:
    """Raise unless this answer fits WEATHER_SCHEMA."""
    found = json.loads(answer) if isinstance(answer, str) else answer
    assert set(found) == {"sky", "degrees"}, found
    assert found["sky"] in SKIES, found
    assert isinstance(found["degrees"], int), found
    assert -20 <= found["degrees"] <= 40, found
