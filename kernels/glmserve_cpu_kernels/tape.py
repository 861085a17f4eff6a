"""Recorded calls of kernels, which one call repeats.

Between two kernels Python takes as long as a small kernel itself, and meanwhile the other threads
have nothing to do. For steps of the same shape only the contents of memory differ, so the calls of
a step are recorded once, with their arguments, and later repeated by `glm_replay`.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from ctypes import c_float, c_int32, c_void_p
from typing import Any, NamedTuple

from torch import Tensor
from torch.overrides import TorchFunctionMode

from glmserve_cpu_kernels.library import Library

_ALIGNMENT = 64
_SIGNATURES = {
    "glm_linear": "ppiippi",
    "glm_rms_norm": "ipppfiip",
    "glm_silu_and_mul": "ipiip",
    "glm_gelu": "ipiip",
    "glm_rope": "ippiiiii",
    "glm_write": "pppi",
    "glm_attend": "pppip",
}
"""The kernels that can be recorded, in the order of `enum Kernel` of src/api.cpp, with the kinds of
their parameters: pointers, int32 and float32."""
_KINDS = {name: kind for kind, name in enumerate(_SIGNATURES)}
_ALLOCATIONS = frozenset({"empty", "empty_like", "new_empty"})
_VIEWS = frozenset({"view", "flatten", "reshape", "contiguous", "unsqueeze", "__getitem__"})
_DESCRIPTIONS = frozenset({"__get__", "__len__", "data_ptr", "dim", "numel", "size", "stride"})
"""Functions of torch that compute nothing, by their names."""
_MOST_POINTERS, _MOST_INTS = 4, 6


class NotRecordableError(Exception):
    """Something was computed that is no recordable kernel; the message says what."""


class CCall(ctypes.Structure):
    """`struct Call` of src/api.cpp."""

    _fields_ = (
        ("pointers", c_void_p * _MOST_POINTERS),
        ("kind", c_int32),
        ("ints", c_int32 * _MOST_INTS),
        ("number", c_float),
    )


class Recording:
    """What was called, and which memory was taken for it."""

    def __init__(self) -> None:
        self.calls: list[CCall] = []
        self.memory: list[Tensor] = []
        """Tensors that were allocated meanwhile; all are kept, so that no two share memory."""

    def add(self, name: str, arguments: Sequence[Any]) -> None:
        """Add a call."""
        call = CCall(kind=_KINDS[name])
        num_pointers = num_ints = 0
        for kind, argument in zip(_SIGNATURES[name], arguments, strict=True):
            if kind == "p":
                call.pointers[num_pointers] = argument
                num_pointers += 1
            elif kind == "i":
                call.ints[num_ints] = argument
                num_ints += 1
            else:
                call.number = argument
        self.calls.append(call)


@contextmanager
def recording(library: Library) -> Iterator[Recording]:
    """Record the kernels that this thread calls. They compute as always.

    Raises:
        NotRecordableError: something else was computed, such as a product by torch.
    """
    found, functions = Recording(), library.functions
    library.functions = _Recorder(functions, found)
    try:
        with _OnlyMemory(found):
            yield found
    finally:
        library.functions = functions


class Tape:
    """Calls that can be repeated. Their memory is taken from an arena, where tensors share the
    place of those that are no longer needed.

    Args:
        library: the kernels.
        found: the calls.
        result: the tensor whose contents remain after the last call.
    """

    def __init__(self, library: Library, found: Recording, result: Tensor) -> None:
        self._replay = library.functions.glm_replay
        self._calls = (CCall * len(found.calls))(*found.calls)
        places = [_Place(one.data_ptr(), one.nbytes) for one in found.memory if one.nbytes]
        lives = _lives(places, found.calls, result.data_ptr())
        offsets, self.num_bytes = arrange(lives)
        self._moves = [
            (call, slot, offsets[index] + pointer - places[index].start)
            for call in self._calls
            for slot, pointer in enumerate(call.pointers)
            if (index := _owner(places, pointer)) is not None
        ]
        index = _owner(places, result.data_ptr())
        if index is None:
            raise NotRecordableError("the result is not in memory that was taken meanwhile")
        self._result = offsets[index] + result.data_ptr() - places[index].start
        self._like = result.shape, result.dtype, result.nbytes

    def use(self, arena: Tensor) -> Tensor:
        """Compute in this arena from now on; returns the result's place in it.

        Args:
            arena: uint8, at least `num_bytes`, aligned for the kernels.
        """
        first = arena.data_ptr()
        for call, slot, offset in self._moves:
            call.pointers[slot] = first + offset
        shape, dtype, num_bytes = self._like
        return arena[self._result : self._result + num_bytes].view(dtype).view(shape)

    def replay(self) -> None:
        """Repeat all calls."""
        self._replay(self._calls, len(self._calls))


class Life(NamedTuple):
    """How long memory is needed: from a call to a later one, both included."""

    first: int
    last: int
    num_bytes: int


def arrange(lives: Sequence[Life]) -> tuple[list[int], int]:
    """Offsets of memory, so that what is needed at the same time does not overlap.

    Returns:
        The offset of each, and the bytes of all together.
    """
    offsets = [0] * len(lives)
    placed: list[tuple[int, int, Life]] = []  # offset, end
    order = sorted(range(len(lives)), key=lambda index: -lives[index].num_bytes)
    for index in order:
        life = lives[index]
        size = -(-life.num_bytes // _ALIGNMENT) * _ALIGNMENT
        offset = 0
        for begin, end, other in sorted(placed, key=lambda one: one[0]):
            if other.last < life.first or life.last < other.first:
                continue
            if offset + size <= begin:
                break
            offset = max(offset, end)
        placed.append((offset, offset + size, life))
        offsets[index] = offset
    return offsets, max((end for _, end, _ in placed), default=0)


class _Place(NamedTuple):
    start: int
    num_bytes: int


def _owner(places: Sequence[_Place], pointer: int | None) -> int | None:
    """Index of the place that a pointer points into; None: another."""
    if pointer is None:
        return None
    for index, place in enumerate(places):
        if place.start <= pointer < place.start + place.num_bytes:
            return index
    return None


def _lives(places: Sequence[_Place], calls: Sequence[CCall], result: int) -> list[Life]:
    """When each place is used. The result is needed for ever; what is never used, at no time."""
    uses: list[list[int]] = [[] for _ in places]
    for number, call in enumerate(calls):
        for pointer in call.pointers:
            if (index := _owner(places, pointer)) is not None:
                uses[index].append(number)
    if (index := _owner(places, result)) is not None:
        uses[index].append(len(calls))
    return [
        Life(used[0], used[-1], place.num_bytes) if used else Life(0, -1, 0)
        for used, place in zip(uses, places, strict=True)
    ]


class _Recorder:
    """Stands for the library's functions: calls them, and records the calls of its thread."""

    def __init__(self, functions: ctypes.CDLL, found: Recording) -> None:
        self._functions = functions
        self._found = found
        self._thread = threading.get_ident()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        function: Callable[..., Any] = getattr(self._functions, name)
        if threading.get_ident() != self._thread:
            return function
        if name not in _SIGNATURES:
            raise NotRecordableError(name)

        def call(*arguments: Any) -> None:
            function(*arguments)
            self._found.add(name, arguments)

        return call


class _OnlyMemory(TorchFunctionMode):
    """Lets torch allocate memory, make views and describe tensors, and nothing else."""

    def __init__(self, found: Recording) -> None:
        super().__init__()
        self._found = found

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.__name__
        if name in _ALLOCATIONS:
            self._found.memory.append(result)
        elif name in _VIEWS:
            if not _share_memory(result, args[0]):
                raise NotRecordableError(f"{name} with a copy")
        elif name not in _DESCRIPTIONS or isinstance(result, Tensor):
            raise NotRecordableError(name)
        return result


def _share_memory(one: Tensor, other: Tensor) -> bool:
    return one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()
