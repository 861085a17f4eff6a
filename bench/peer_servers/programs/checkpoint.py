"""Reads what transformers wrote for a GLM model, with numpy alone: the writers' common source."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np


class Checkpoint:
    """config.json and one safetensors file of bfloat16 numbers."""

    def __init__(self, folder: Path) -> None:
        self.config = json.loads((folder / "config.json").read_text())
        path = folder / "model.safetensors"
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            self._entries = json.loads(file.read(size))
        self._data = np.memmap(path, np.uint8, "r", 8 + size)

    def bits(self, name: str) -> np.ndarray:
        """A tensor's bfloat16 numbers as uint16.

        Raises:
            SystemExit: it is of another type.
        """
        entry = self._entries[name]
        if entry["dtype"] != "BF16":
            raise SystemExit(f"{name} is {entry['dtype']}, not BF16")
        first, last = entry["data_offsets"]
        return self._data[first:last].view(np.uint16).reshape(entry["shape"])

    def floats(self, name: str) -> np.ndarray:
        """A tensor as float32."""
        return (self.bits(name).astype(np.uint32) << 16).view(np.float32)

    def layer(self, number: int) -> Layer:
        return Layer(self, f"model.layers.{number}.")


class Layer:
    """The parts of one layer; Q, K and V as ChatGLM has them, in one."""

    def __init__(self, checkpoint: Checkpoint, prefix: str) -> None:
        self._checkpoint, self._prefix = checkpoint, prefix

    def bits(self, name: str) -> np.ndarray:
        return self._checkpoint.bits(self._prefix + name)

    def floats(self, name: str) -> np.ndarray:
        return self._checkpoint.floats(self._prefix + name)

    def qkv_bits(self) -> np.ndarray:
        """bfloat16 as uint16: [(heads + 2 * kv heads) * head dim, hidden]."""
        return np.concatenate([self.bits(f"self_attn.{x}_proj.weight") for x in "qkv"])

    def qkv_bias(self) -> np.ndarray:
        """float32: [(heads + 2 * kv heads) * head dim]."""
        return np.concatenate([self.floats(f"self_attn.{x}_proj.bias") for x in "qkv"])
