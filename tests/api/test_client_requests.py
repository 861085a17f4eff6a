"""Requests that real programs send are answered.

Each file in `client_requests` has the requests of one program. Its origin is `run` if they were
recorded from the program, and `source` if they follow from the program's source code.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from glmserve.contract.step import RunnerLimits
from support.fakes import FakeRunner

FILES = sorted((Path(__file__).parent / "client_requests").glob("*.json"))
RECORDED = {file.stem: json.loads(file.read_text()) for file in FILES}
LIMITS = RunnerLimits(
    num_blocks=512, block_size=4, max_sequences=16, max_step_tokens=512, max_context=1024
)
SHORT = {"max_tokens": 200}
"""For requests without a limit: models end by themselves, the fake one does not."""


@pytest.fixture
async def roomy(make_client: Any) -> httpx.AsyncClient:
    return await make_client(runner=FakeRunner(LIMITS))  # type: ignore[no-any-return]


def limited(body: dict[str, Any]) -> dict[str, Any]:
    has_limit = body.keys() & {"max_tokens", "max_completion_tokens", "input"}
    return body if has_limit else body | SHORT


@pytest.mark.parametrize("name", RECORDED)
async def test_requests_are_answered(roomy: httpx.AsyncClient, name: str) -> None:
    recorded = RECORDED[name]
    assert recorded.keys() == {"client", "version", "origin", "requests"}
    assert recorded["origin"] in ("run", "source")
    assert recorded["requests"]
    for request in recorded["requests"]:
        response = await roomy.post(request["path"], json=limited(request["body"]))
        assert response.status_code == 200, (request["body"], response.text)
        if request["body"].get("stream") and "/render" not in request["path"]:
            assert response.text.endswith("data: [DONE]\n\n")
            assert '"error"' not in response.text
