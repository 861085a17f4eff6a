"""The prefixes of a runner's adapters: each once, in slots of the KV cache behind its blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from glmserve.adapters import PrefixAdapterConfig
from glmserve.config import RunnerConfig
from glmserve.errors import AdapterError
from glmserve.model_config import ModelConfig
from glmserve.model_config.sharding import Part
from glmserve.models.prefix import load_prefix_adapter
from glmserve.ops.attention.backend import AnyAttentionBackend
from glmserve.ops.attention.slot_cache import SlotBackend
from glmserve.runner.batch import PrefixSpan


class Prefixes:
    """Reads prefixes, puts them into the cache, and gives their slots to others.

    Args:
        options: `max_adapters` prefixes of `max_prefix_length` slots fit.
        config: of the whole model.
        part: the rank's.
        dtype: of activations.
        attention: the rank's backend.
        caches: of the rank's layers, with slots for prefixes.

    Raises:
        TypeError: the backend has no slots for prefixes.
    """

    def __init__(
        self,
        options: RunnerConfig,
        config: ModelConfig,
        part: Part,
        dtype: torch.dtype,
        attention: AnyAttentionBackend,
        caches: Sequence[Any],
    ) -> None:
        self._config = config
        self._part = part
        self._dtype = dtype
        self._longest = options.max_prefix_length
        self._backend: SlotBackend[Any] | None = None
        if self._longest:
            if not isinstance(attention, SlotBackend):
                raise TypeError(f"{type(attention).__name__} has no slots for prefixes")
            self._backend = attention
        self._caches = caches
        self._free = [i * self._longest for i in reversed(range(options.max_adapters))]
        self._spans: dict[int, PrefixSpan] = {}

    @property
    def spans(self) -> Mapping[int, PrefixSpan]:
        """By adapter id."""
        return self._spans

    def read(self, adapter: PrefixAdapterConfig) -> Tensor:
        """Its keys and values, as `load_prefix` returns them.

        Raises:
            AdapterError: they cannot be read, do not fit the model, or there is no room for them.
        """
        if adapter.length > self._longest:
            raise AdapterError(
                f"{adapter.folder}: a prefix of {adapter.length} slots is more than "
                f"--max-prefix-length {self._longest}; start the server with a larger one"
            )
        return load_prefix_adapter(self._config, adapter, self._dtype, self._part)

    @torch.inference_mode()
    def install(self, adapter_id: int, adapter: PrefixAdapterConfig, prefix: Tensor) -> None:
        """Put a prefix into the cache."""
        assert self._backend is not None  # `read` refuses otherwise
        first = self._free.pop()
        self._backend.write_prefix(self._caches, prefix.to(self._backend.device), first)
        shift = adapter.length if self._shifts(adapter) else 0
        self._spans[adapter_id] = PrefixSpan(first, adapter.length, shift)

    def remove(self, adapter_id: int) -> None:
        """Let other prefixes have the slots."""
        self._free.append(self._spans.pop(adapter_id).first)

    def _shifts(self, adapter: PrefixAdapterConfig) -> bool:
        """Whether the text's rotary positions begin behind the prefix, not at 0.

        PEFT puts the prefix into the model's cache. transformers' own classes count positions from
        the length of the cache; the publishers' remote code counts them from the text's beginning.
        """
        return adapter.kind == "prefix-tuning" and not self._config.is_remote_code
