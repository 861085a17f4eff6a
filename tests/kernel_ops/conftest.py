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
