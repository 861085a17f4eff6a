"""Batches of a real server, and what becomes of them when it is killed."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest

from support.mixed_requests import QUESTIONS
from support.server_process import ServerProcess, worker_of

CHAT = "/v1/chat/completions"
ENDED = ("completed", "failed", "expired", "cancelled")
Victim = Literal["worker", "server"]


def line(custom_id: str, url: str = CHAT, **body: Any) -> bytes:
    """A request of a batch."""
    request = {"custom_id": custom_id, "method": "POST", "url": url, "body": body}
    return json.dumps(request).encode()


def chat_lines(count: int, max_tokens: int) -> bytes:
    """Greedy and seeded conversations."""
    return b"\n".join(
        line(
            f"request-{number}",
            messages=[{"role": "user", "content": f"Tell me about number {number}"}],
            max_tokens=max_tokens,
            **({"seed": number, "temperature": 0.9} if number % 2 else {"temperature": 0}),
        )
        for number in range(count)
    )


def mixed_requests(count: int) -> list[tuple[str, dict[str, Any]]]:
    """Paths and bodies: all routes, greedy and seeded, of several lengths."""
    requests: list[tuple[str, dict[str, Any]]] = []
    for number in range(count):
        question = QUESTIONS[number % len(QUESTIONS)]
        sampled = {"temperature": 0} if number % 2 else {"temperature": 1.1, "seed": number}
        length = 1 + 7 * number % 29
        if number % 4 == 0:
            sampled["n"] = 1 + number % 3
            messages = [{"role": "user", "content": question}]
            requests.append((CHAT, {"messages": messages, "max_tokens": length, **sampled}))
        elif number % 4 == 1:
            body = {"prompt": [question, question * 3], "max_tokens": length, **sampled}
            requests.append(("/v1/completions", {**body, "logprobs": 2}))
        elif number % 4 == 2:
            requests.append(("/v1/embeddings", {"input": [question, question * 2]}))
        else:
            body = {"input": question, "max_output_tokens": length, **sampled}
            requests.append(("/v1/responses", body))
    return requests


def start_batch(url: str, lines: bytes, endpoint: str = CHAT) -> str:
    """The id of a new batch of these lines."""
    form = {"purpose": "batch"}
    stored = httpx.post(f"{url}/v1/files", data=form, files={"file": ("in.jsonl", lines)})
    body = {
        "input_file_id": stored.json()["id"],
        "endpoint": endpoint,
        "completion_window": "24h",
    }
    batch_id: str = httpx.post(f"{url}/v1/batches", json=body).json()["id"]
    return batch_id


def state_of(url: str, batch_id: str) -> dict[str, Any]:
    state: dict[str, Any] = httpx.get(f"{url}/v1/batches/{batch_id}").json()
    return state


def wait_until(url: str, batch_id: str, reached: Callable[[dict[str, Any]], bool]) -> Any:
    """The batch's state when it has been reached, or the batch has ended."""
    while not reached(state := state_of(url, batch_id)) and state["status"] not in ENDED:
        time.sleep(0.02)
    return state


def answers_of(url: str, file_id: str) -> dict[str, Any]:
    """What each line of an output says, by custom ids, of which none comes twice."""
    content = httpx.get(f"{url}/v1/files/{file_id}/content").content
    return contents(content.splitlines())


def contents(lines: list[bytes]) -> dict[str, Any]:
    """The texts of the answers in an output, by custom ids, of which none comes twice."""
    found = [json.loads(item) for item in lines]
    by_id = {item["custom_id"]: text_of(item["response"]["body"]) for item in found}
    assert len(by_id) == len(found)
    return by_id


def text_of(body: dict[str, Any]) -> Any:
    """What an answer says: all but its ids and times."""
    if "output" in body:
        return [item["content"] for item in body["output"]]
    if "choices" in body:
        return [body["choices"], body["usage"]["completion_tokens"]]
    return [item["embedding"] for item in body["data"]]


def assert_same(own: dict[str, Any], theirs: dict[str, Any], path: str) -> None:
    """Answers of two runs are equal; of vectors, the last digits depend on chunks (guarantees.md).

    Args:
        path: that was asked.
    """
    assert own.keys() == theirs.keys()
    for custom_id, answer in own.items():
        if path == "/v1/embeddings":
            for vector, other in zip(answer, theirs[custom_id], strict=True):
                assert vector == pytest.approx(other, abs=1e-6)
        else:
            assert answer == theirs[custom_id]


def kill_through(
    folder: Path,
    lines: bytes,
    victims: list[Victim],
    moments: Iterator[float],
    *options: str,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run a batch through the deaths of its server and of its worker, and then undisturbed.

    Args:
        moments: for each death, the part of the lines that are answered before it; when that is
            reached already, it comes at once.

    Returns:
        The answers of both runs.
    """
    arguments = ("--batch-dir", str(folder), *options)
    total, batch_id, waiting = lines.count(b"\n") + 1, "", list(victims)
    while True:
        with ServerProcess(*arguments) as server:
            batch_id = batch_id or start_batch(server.url, lines)
            while waiting:
                answered = int(next(moments) * total)
                state = wait_until(server.url, batch_id, partial(_has_answered, answered))
                assert state["status"] not in ENDED
                victim = waiting.pop(0)
                pid = server.pid if victim == "server" else worker_of(server.pid)
                os.kill(pid, signal.SIGKILL)
                if victim == "server":
                    break
                while server.metric("glmserve_worker_restarts_total") < 1:
                    time.sleep(0.02)
            else:
                state = wait_until(server.url, batch_id, lambda _: False)
                assert state["status"] == "completed"
                assert state["error_file_id"] is None
                disturbed = answers_of(server.url, state["output_file_id"])
                again = start_batch(server.url, lines)
                state = wait_until(server.url, again, lambda _: False)
                return disturbed, answers_of(server.url, state["output_file_id"])
            server.wait()


def _has_answered(count: int, state: dict[str, Any]) -> bool:
    return bool(state["request_counts"]["completed"] >= count)


def random_moments(chooser: random.Random) -> Iterator[float]:
    """Parts of the lines, none before the one before it."""
    part = 0.0
    while True:
        part += chooser.uniform(0, 0.08)
        yield min(part, 0.98)
