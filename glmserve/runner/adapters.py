"""The adapters of a runner: each in a slot of every linear module."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from glmserve.adapters import LoraConfig, PrefixAdapterConfig, digest, read_adapter_config
from glmserve.config import RunnerConfig
from glmserve.contract.adapter import NO_ADAPTER, AdapterSource
from glmserve.errors import AdapterError
from glmserve.model_config import ModelConfig
from glmserve.model_config.sharding import Part
from glmserve.models.adapter_slots import AdapterRoom, adapter_bytes
from glmserve.models.glm import Glm
from glmserve.models.lora import read_lora_weights
from glmserve.models.lora_local import LocalLora
from glmserve.ops.adapters.rows import NO_SLOT
from glmserve.ops.adapters.slots import LoraSlots, PackedLora
from glmserve.ops.attention.backend import AnyAttentionBackend
from glmserve.runner.batch import NO_SLOTS, PrefixSpan
from glmserve.runner.prefixes import Prefixes

EMPTY_ADAPTER = -1
"""Id of an adapter that changes nothing until others are loaded, for warming up."""


class Adapters:
    """Reads adapters, puts them into slots, and takes them out.

    Args:
        model: the rank's, with slots.
        config: of the whole model.
        part: the rank's.
        dtype: of activations.
        prefixes: holds those that are prefixes.

    It is made on the thread that executes the steps.
    """

    def __init__(
        self,
        model: Glm[object, object],
        config: ModelConfig,
        part: Part,
        room: AdapterRoom,
        dtype: torch.dtype,
        prefixes: Prefixes,
    ) -> None:
        self._config = config
        self._prefixes = prefixes
        self._room = room
        self._local = LocalLora(config, part, model.biases(), dtype)
        self._modules: dict[str, LoraSlots] = {
            name: linear.lora for name, linear in model.linears().items() if linear.lora is not None
        }
        self._num_threads = torch.get_num_threads()
        self._free = list(reversed(range(room.adapters)))
        self._slots: dict[int, int] = {NO_ADAPTER: NO_SLOT, EMPTY_ADAPTER: self._free[-1]}

    @property
    def slots(self) -> Mapping[int, int]:
        """Adapter id to slot; NO_ADAPTER to NO_SLOT."""
        return self._slots

    @property
    def prefixes(self) -> Mapping[int, PrefixSpan]:
        """By adapter id, for `build_batch`."""
        return self._prefixes.spans

    def read(self, source: AdapterSource) -> Callable[[], None]:
        """See AdapterRunner.read_adapter."""
        adapter = read_adapter_config(Path(source.folder))
        with torch.inference_mode(), _one_thread(self._num_threads):
            if isinstance(adapter, LoraConfig):
                install = self._read_lora(source.id, adapter)
            else:
                install = self._read_prefix(source.id, adapter)
        # After the weights were read: so these are what the digest is of.
        if digest(adapter.folder) != source.digest:
            raise AdapterError(f"{adapter.folder}: has changed since it was named; load it anew")
        return install

    def _read_lora(self, adapter_id: int, lora: LoraConfig) -> Callable[[], None]:
        if lora.largest_rank > self._room.rank:
            raise AdapterError(
                f"{lora.folder}: rank {lora.largest_rank} is more than --max-lora-rank "
                f"{self._room.rank}; raise the option"
            )
        whole = read_lora_weights(lora, self._config)
        weights = self._local.weights(lora, whole)
        if not whole.has_effect:
            _note(
                f"{lora.folder}: the adapter changes nothing: all numbers of its B matrices are 0"
            )
        packed = {name: self._modules[name].pack(own) for name, own in weights.items()}
        return lambda: self._install(adapter_id, packed)

    def _read_prefix(self, adapter_id: int, adapter: PrefixAdapterConfig) -> Callable[[], None]:
        prefix = self._prefixes.read(adapter)

        def install() -> None:
            self._prefixes.install(adapter_id, adapter, prefix)
            self._slots[adapter_id] = NO_SLOT

        return install

    @torch.inference_mode()
    def remove(self, adapter_id: int) -> None:
        """See AdapterRunner.remove_adapter."""
        slot = self._slots.pop(adapter_id)
        if adapter_id in self._prefixes.spans:
            self._prefixes.remove(adapter_id)
            return
        for module in self._modules.values():
            module.store(slot, None)
        self._free.append(slot)

    @torch.inference_mode()
    def _install(self, adapter_id: int, packed: Mapping[str, PackedLora]) -> None:
        if adapter_id in self._slots:
            raise AdapterError(f"an adapter of id {adapter_id} is loaded already")
        if not self._free:
            raise AdapterError(f"all {self._room.adapters} slots of --max-adapters hold adapters")
        slot = self._free.pop()
        for name, module in self._modules.items():
            module.store(slot, packed.get(name))
        self._slots[adapter_id] = slot


def room_of(config: RunnerConfig) -> AdapterRoom | None:
    """The room that the options ask for; None: for no adapter."""
    if not config.max_adapters:
        return None
    return AdapterRoom(config.max_adapters, config.max_lora_rank)


def room_bytes(config: RunnerConfig, own: ModelConfig, itemsize: int, token_bytes: int) -> int:
    """The most bytes that adapters take on a rank.

    Args:
        own: of the rank's part.
        itemsize: bytes of an activation.
        token_bytes: of one slot in the caches of all its layers.
    """
    room = room_of(config)
    if room is None:
        return 0
    return adapter_bytes(own, room, itemsize) + config.prefix_slots * token_bytes


def make_adapters(
    options: RunnerConfig,
    model: object,
    config: ModelConfig,
    part: Part,
    dtype: torch.dtype,
    attention: AnyAttentionBackend,
    caches: Sequence[Any],
) -> Adapters | None:
    """The adapters of a runner; None: it has no room for any.

    Args:
        model: the rank's, built with `room_of(options)`.
        config: of the whole model.
        attention: the rank's backend.
        caches: of its layers.

    Raises:
        TypeError: the model has no slots for adapters.
    """
    room = room_of(options)
    if room is None:
        return None
    if not isinstance(model, Glm):
        raise TypeError(f"{type(model).__name__} has no slots for adapters")
    prefixes = Prefixes(options, config, part, dtype, attention, caches)
    return Adapters(model, config, part, room, dtype, prefixes)


def slot_bytes(model: object) -> int:
    """Bytes that the slots of a model's linear modules take now."""
    if not isinstance(model, Glm):
        return 0
    slots = [linear.lora for linear in model.linears().values()]
    return sum(module.num_bytes for module in slots if module is not None)


def slots_of(adapters: Adapters | None) -> Mapping[int, int]:
    """Adapter id to slot, for `build_batch`."""
    return NO_SLOTS if adapters is None else adapters.slots


def prefixes_of(adapters: Adapters | None) -> Mapping[int, PrefixSpan]:
    """Prefixes by adapter id, for `build_batch`."""
    return {} if adapters is None else adapters.prefixes


def required(adapters: Adapters | None) -> Adapters:
    """The adapters of a runner that has room for some.

    Raises:
        RuntimeError: it has none, or is closed.
    """
    if adapters is None:
        raise RuntimeError("the runner has no room for adapters")
    return adapters


@contextmanager
def _one_thread(usual: int) -> Iterator[None]:
    """Compute with the calling thread alone: reading an adapter must not take the processors from
    the steps.

    Args:
        usual: number of threads. Each thread of the process has its own, which it takes from the
            last one set when it first asks: the thread of the steps has asked before.
    """
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(usual)


def _note(message: str) -> None:
    """Tell the operator."""
    print(f"glmserve: {' '.join(message.split())}", file=sys.stderr, flush=True)
