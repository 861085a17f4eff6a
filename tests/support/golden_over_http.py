"""Greedy ids of the original models, asked of a real server."""

from __future__ import annotations

from pathlib import Path

import httpx

from support.golden import read_greedy
from support.server_process import ServerProcess


def check_greedy_ids(server: ServerProcess, reference: Path, times: int = 1) -> None:
    """Check that the only model of the server continues each prompt as the original one.

    Args:
        times: how often each prompt is sent.
    """
    (model,) = httpx.get(f"{server.url}/v1/models", timeout=60).json()["data"]
    for prompt, greedy in zip(*read_greedy(reference), strict=True):
        body = {
            "model": model["id"],
            "prompt": prompt,
            "max_tokens": len(greedy),
            "temperature": 0,
            "ignore_eos": True,
            "return_token_ids": True,
        }
        for _ in range(times):
            response = httpx.post(f"{server.url}/v1/completions", json=body, timeout=60)
            assert response.json()["choices"][0]["token_ids"] == greedy
