"""Where kernels run: on the GPU if there is one, else in Triton's interpreter (tests/conftest.py
has chosen it, before anything imported triton)."""

from __future__ import annotations

import os

import pytest
import torch

pytest.importorskip("triton", reason="kernels need triton, which there is for Linux only")

if os.environ.get("TRITON_INTERPRET") == "1":
    from interpreter import install

    install()


@pytest.fixture(scope="session")
def device() -> torch.device:
    """Where to make the tensors."""
    return torch.device("cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda")


@pytest.fixture(scope="session")
def chip() -> str:
    """Whose tiles to use: in the interpreter they matter little, sm_80's are the smallest."""
    if os.environ.get("TRITON_INTERPRET") == "1":
        return "sm_80"
    from triton.runtime import driver

    target = driver.active.get_current_target()
    return f"sm_{target.arch}" if target.backend == "cuda" else str(target.arch)
