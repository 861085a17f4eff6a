"""Makes bfloat16 and float8 right in Triton's interpreter (3.6 to 3.9).

The interpreter keeps them as raw integers: dot, sum, comparison and arithmetic on them give garbage
without a word, and float32 is truncated to bfloat16 instead of rounded. The bits of a row of a dot
may depend on the row's place. Casts and dot are replaced; whatever else touches narrow floats
raises, so that a kernel cannot come to depend on it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import triton.language as tl
from triton.runtime import interpreter

_NARROW = {
    tl.bfloat16: ml_dtypes.bfloat16,
    tl.float8e4nv: ml_dtypes.float8_e4m3fn,
    tl.float8e5: ml_dtypes.float8_e5m2,
}
_LARGEST_E4M3 = 448.0


def install() -> None:
    """Patch the interpreter; a second call changes nothing."""
    builder = interpreter.InterpreterBuilder
    if builder.create_fp_to_fp is _convert:
        return
    builder.cast_impl = lambda self, source, target: _convert(self, source, target)
    builder.create_fp_to_fp = _convert
    builder.create_dot = _dot(builder.create_dot)
    for owner, name in (
        (builder, "binary_op"),
        (builder, "unary_op"),
        (interpreter.ReduceOps, "apply_impl"),
        (interpreter.ScanOps, "apply_impl"),
    ):
        setattr(owner, name, _refuse_narrow(getattr(owner, name)))
    _let_tensors_count(interpreter)
    _patch_once(interpreter)


def _wide(handle: Any) -> np.ndarray[Any, Any]:
    """The numbers of a tensor handle, narrow floats as float32."""
    scalar = handle.dtype.scalar
    data: np.ndarray[Any, Any] = handle.data
    return data.view(_NARROW[scalar]).astype(np.float32) if scalar in _NARROW else data


def _convert(_builder: Any, source: Any, target: Any, *_rounding: Any) -> Any:
    scalar = target.scalar
    numbers = _wide(source)
    dtype = interpreter._get_np_dtype(target)
    if scalar not in _NARROW:
        return interpreter.TensorHandle(numbers.astype(dtype), scalar)
    numbers = numbers.astype(np.float32)
    if scalar == tl.float8e4nv:  # cvt.rn.satfinite
        numbers = np.clip(numbers, -_LARGEST_E4M3, _LARGEST_E4M3)
    return interpreter.TensorHandle(numbers.astype(_NARROW[scalar]).view(dtype), scalar)


def _dot(original: Callable[..., Any]) -> Callable[..., Any]:
    def dot(builder: Any, a: Any, b: Any, total: Any, *options: Any) -> Any:
        if not a.dtype.is_floating():
            return original(builder, a, b, total, *options)
        product = _by_rows(_wide(a).astype(np.float32), _wide(b).astype(np.float32))
        return interpreter.TensorHandle(
            product.astype(total.data.dtype) + total.data, total.dtype.scalar
        )

    return dot


def _by_rows(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The product of two matrices, each row in the same way, as on a GPU.

    On some CPUs (Zen 5) numpy's BLAS adds up the last rows of a matrix in another order.
    """
    product: np.ndarray[Any, Any] = np.matmul(
        a[..., None, :], np.ascontiguousarray(b)[..., None, :, :]
    )
    return product[..., 0, :]


def _refuse_narrow(original: Callable[..., Any]) -> Callable[..., Any]:
    def guarded(self: Any, *arguments: Any) -> Any:
        for argument in arguments:
            for handle in argument if isinstance(argument, tuple) else (argument,):
                dtype = getattr(handle, "dtype", None)
                if getattr(dtype, "scalar", None) in _NARROW:
                    raise NotImplementedError("cast bfloat16 and float8 to float32 first")
        return original(self, *arguments)

    return guarded


def _let_tensors_count(module: Any) -> None:
    """Triton 3.6 with numpy >= 2.4: `range` over bounds that are tensors needs __index__."""
    patch = getattr(module, "_patch_lang_tensor", None)
    if patch is None:
        return

    def patched(tensor: Any, scope: Any) -> None:
        patch(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.squeeze()))

    module._patch_lang_tensor = patched


def _patch_once(module: Any) -> None:
    """Triton 3.9 replaces the language's functions anew at every call of a jit helper.

    Once for each launch is enough, and twice as fast.
    """
    patch = getattr(module, "_patch_builtin", None)
    if patch is None or len(inspect.signature(patch).parameters) != 3:
        return

    def patched(package: Any, builder: Any, scope: Any) -> None:
        if not hasattr(package, "_is_interpreted"):
            patch(package, builder, scope)
            scope.set_attr(package, "_is_interpreted", True)

    module._patch_builtin = patched
