"""Writes tensors into safetensors files of limited size, with their index."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from glmserve.errors import StartupError
from glmserve.process.paths import utf8_alias

SHARD_BYTES = 2 * 2**30
"""Some versions of safetensors copy what they write, so a file takes twice its size in memory."""


class ShardWriter:
    """Collects tensors up to the size of one file, then writes the file.

    Args:
        folder: exists.
        shard_bytes: largest size of a file, unless a single tensor is larger.
        name: of the files, without their suffix.
    """

    def __init__(self, folder: Path, shard_bytes: int = SHARD_BYTES, name: str = "model") -> None:
        self._folder = folder
        self._name = name
        self._shard_bytes = shard_bytes
        self._waiting: dict[str, Tensor] = {}
        self._waiting_bytes = 0
        self._shards: list[list[str]] = []
        """Names of the tensors in each written file."""
        self.total_bytes = 0

    def add(self, name: str, tensor: Tensor) -> None:
        """Add a tensor that owns its memory.

        Raises:
            StartupError: a file cannot be written.
        """
        if self._waiting and self._waiting_bytes + tensor.nbytes > self._shard_bytes:
            self._write()
        self._waiting[name] = tensor
        self._waiting_bytes += tensor.nbytes
        self.total_bytes += tensor.nbytes

    def finish(self) -> int:
        """Write the remaining tensors, and the index if there is more than one file.

        Returns:
            The number of files.

        Raises:
            StartupError: a file cannot be written.
        """
        self._write()
        count = len(self._shards)
        if count == 1:
            self._path(0).rename(self._folder / f"{self._name}.safetensors")
            return 1
        weight_map: dict[str, str] = {}
        for number, names in enumerate(self._shards):
            file = f"{self._name}-{number + 1:05}-of-{count:05}.safetensors"
            self._path(number).rename(self._folder / file)
            weight_map |= dict.fromkeys(names, file)
        index = {"metadata": {"total_size": self.total_bytes}, "weight_map": weight_map}
        path = self._folder / f"{self._name}.safetensors.index.json"
        path.write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
        return count

    def _write(self) -> None:
        path = self._path(len(self._shards))
        path.touch()
        usual_mode = path.stat().st_mode
        try:
            with utf8_alias(path) as alias:
                save_file(self._waiting, alias, metadata={"format": "pt"})
        except SafetensorError as error:
            raise StartupError(
                f"{path}: cannot be written: {error}; is there space left?"
            ) from None
        path.chmod(usual_mode)  # some versions of safetensors make it readable to its owner only
        self._shards.append(list(self._waiting))
        self._waiting, self._waiting_bytes = {}, 0

    def _path(self, number: int) -> Path:
        """Temporary path of a file, until the number of files is known."""
        return self._folder / f"shard-{number}.safetensors"
