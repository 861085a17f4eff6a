"""Writes tensors into safetensors files of limited size, with their index."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from glmserve.errors import StartupError

SHARD_BYTES = 2 * 2**30
"""Half of what a file may have: some versions of safetensors copy what they write."""


class ShardWriter:
    """Collects tensors up to one file's worth, and writes them."""

    def __init__(self, folder: Path, shard_bytes: int = SHARD_BYTES) -> None:
        self._folder = folder
        self._shard_bytes = shard_bytes
        self._waiting: dict[str, Tensor] = {}
        self._waiting_bytes = 0
        self._shards: list[list[str]] = []
        """Names of the tensors in each file."""
        self.total_bytes = 0

    def add(self, name: str, tensor: Tensor) -> None:
        """Take a tensor that owns its memory."""
        if self._waiting and self._waiting_bytes + tensor.nbytes > self._shard_bytes:
            self._write()
        self._waiting[name] = tensor
        self._waiting_bytes += tensor.nbytes
        self.total_bytes += tensor.nbytes

    def finish(self) -> int:
        """Write the rest, and the index if there is more than one file; the number of files."""
        self._write()
        count = len(self._shards)
        if count == 1:
            self._path(0).rename(self._folder / "model.safetensors")
            return 1
        weight_map: dict[str, str] = {}
        for number, names in enumerate(self._shards):
            file = f"model-{number + 1:05}-of-{count:05}.safetensors"
            self._path(number).rename(self._folder / file)
            weight_map |= dict.fromkeys(names, file)
        index = {"metadata": {"total_size": self.total_bytes}, "weight_map": weight_map}
        path = self._folder / "model.safetensors.index.json"
        path.write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
        return count

    def _write(self) -> None:
        path = self._path(len(self._shards))
        path.touch()
        usual_mode = path.stat().st_mode
        try:
            save_file(self._waiting, path, metadata={"format": "pt"})
        except SafetensorError as error:
            raise StartupError(
                f"{path}: cannot be written: {error}; is there space left?"
            ) from None
        path.chmod(usual_mode)  # some versions of safetensors leave it readable to its owner alone
        self._shards.append(list(self._waiting))
        self._waiting, self._waiting_bytes = {}, 0

    def _path(self, number: int) -> Path:
        """Of a file while nobody knows how many there will be."""
        return self._folder / f"shard-{number}.safetensors"
