"""Environment variables that must be set before a process imports torch."""

from __future__ import annotations

import os

TORCH_DEFAULTS = {
    # libgomp spins at barriers by default, which takes the cores from other threads, here from the
    # server's event loop. It reads the variable once, when torch loads it.
    "OMP_WAIT_POLICY": "PASSIVE",
    # Packages of accelerators let `import torch` import them (entry points torch.backends). One
    # whose driver is broken would break every device. The devices import what they need.
    "TORCH_DEVICE_BACKEND_AUTOLOAD": "0",
}
"""Values for variables that the user has not set."""


def prepare_for_torch() -> None:
    """Set the defaults in this process, and in those that it starts."""
    for name, value in TORCH_DEFAULTS.items():
        os.environ.setdefault(name, value)
