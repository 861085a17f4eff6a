"""What torch has for the same work, where one line says it: to compare with, in the same run."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from glmserve_kernels.operation import Arguments
from gpu_timing import Launch


def baseline(operation: str, arguments: Arguments) -> tuple[str, Launch] | None:
    """torch's way to do it on arguments like these, and what it is called; None: there is none."""
    prepare = _BASELINES.get(operation)
    return None if prepare is None else prepare(arguments)


def _rms_norm(arguments: Arguments) -> tuple[str, Launch]:
    x, residual, weight = (arguments[name] for name in ("x", "residual", "weight"))
    shape, eps = (x.shape[1],), arguments["eps"]
    if residual is None:
        return "F.rms_norm", lambda: functional.rms_norm(x, shape, weight, eps)
    return "add_, F.rms_norm", lambda: functional.rms_norm(residual.add_(x), shape, weight, eps)


def _silu_and_mul(arguments: Arguments) -> tuple[str, Launch]:
    gate, up = arguments["x"].chunk(2, dim=1)
    return "F.silu, mul", lambda: functional.silu(gate) * up


def _linear(arguments: Arguments) -> tuple[str, Launch]:
    x, bias, weight = arguments["x"], arguments["bias"], _numbers(arguments)
    return f"F.linear {str(x.dtype).removeprefix('torch.')}", lambda: functional.linear(
        x, weight, bias
    )


def _numbers(arguments: Arguments) -> Tensor:
    """The weight, or as many numbers of the activations' dtype in the place of codes."""
    x, scales = arguments["x"], arguments.get("scales")
    if scales is None:
        return arguments["weight"]
    return torch.randn(len(scales), x.shape[1], device=x.device).mul_(0.01).to(x.dtype)


def _matmul_add(arguments: Arguments) -> tuple[str, Launch]:
    name, product = _linear(arguments)
    residual = arguments["residual"]
    return f"{name}, add_", lambda: residual.add_(product())


def _norm_matmul(arguments: Arguments) -> tuple[str, Launch]:
    """Without what is behind the product."""
    x, norm, eps = (arguments[name] for name in ("x", "norm", "eps"))
    bias, weight = arguments["bias"], _numbers(arguments)
    return "F.rms_norm, F.linear", lambda: functional.linear(
        functional.rms_norm(x, norm.shape, norm, eps), weight, bias
    )


def _norm_matmul_silu(arguments: Arguments) -> tuple[str, Launch]:
    name, product = _norm_matmul(arguments)

    def launch() -> Tensor:
        gate, up = product().chunk(2, dim=1)
        return functional.silu(gate) * up

    return f"{name}, F.silu, mul", launch


def _dequantize_weight(arguments: Arguments) -> tuple[str, Launch] | None:
    weight, scales, out = (arguments[name] for name in ("weight", "scales", "out"))
    if weight.dtype != torch.int8 or scales.shape[1] > 1:
        return None
    return "codes * scales", lambda: torch.mul(weight, scales, out=out)


def _copy_blocks(arguments: Arguments) -> tuple[str, Launch]:
    cache = arguments["cache"]
    source, target = arguments["pairs"].long().unbind(1)
    return "index_copy_", lambda: cache.index_copy_(0, target, cache[source])


def _most_likely_token(arguments: Arguments) -> tuple[str, Launch]:
    logits = arguments["logits"]
    return "argmax", lambda: logits.argmax(-1)


def _decode(arguments: Arguments) -> tuple[str, Launch]:
    """Over K and V in one piece, without blocks: what paging must not cost."""
    q, items = arguments["q"], arguments["items"]
    return _sdpa(q[:, :, None], int(items[:, 2].max()), arguments["keys"].shape, causal=False)


def _prefill(arguments: Arguments) -> tuple[str, Launch] | None:
    """The same for new tokens; sequences of unequal length have no one-line equivalent."""
    lengths, contexts = arguments["query_start"].diff(), arguments["context_lens"]
    if lengths.unique().numel() > 1 or contexts.unique().numel() > 1:
        return None
    q = arguments["q"].unflatten(0, (len(lengths), -1)).transpose(1, 2)
    return _sdpa(q, int(contexts[0]), arguments["keys"].shape, causal=True)


def _sdpa(q: Tensor, context: int, cache_shape: torch.Size, *, causal: bool) -> tuple[str, Launch]:
    """q: [B, Hq, T, D]; the keys and values of `context` tokens are new random numbers."""
    shape = (len(q), cache_shape[1], context, q.shape[-1])
    keys, values = (torch.randn(shape, device=q.device, dtype=q.dtype) for _ in range(2))
    grouped = q.shape[1] != shape[1]
    if causal and q.shape[2] == context:
        options = {"is_causal": True}
    else:
        mask = _causal_mask(q.shape[2], context) if causal and q.shape[2] > 1 else None
        options = {"attn_mask": mask}
    return "SDPA", lambda: functional.scaled_dot_product_attention(
        q, keys, values, enable_gqa=grouped, **options
    )


_BASELINES: dict[str, Callable[[Arguments], tuple[str, Launch] | None]] = {
    "rms_norm": _rms_norm,
    "silu_and_mul": _silu_and_mul,
    "quantized_matmul": _linear,
    "batch_invariant_matmul": _linear,
    "matmul_add": _matmul_add,
    "norm_matmul_silu": _norm_matmul_silu,
    "norm_matmul_rope": _norm_matmul,
    "dequantize_weight": _dequantize_weight,
    "copy_blocks": _copy_blocks,
    "most_likely_token": _most_likely_token,
    "paged_decode": _decode,
    "paged_prefill": _prefill,
    "batch_invariant_attention": _prefill,
}


def _causal_mask(num_queries: int, context: int) -> Tensor:
    """The mask under which the last query sees the whole context."""
    # Imported here because it imports torch's compiler, which takes seconds.
    from torch.nn.attention.bias import causal_lower_right

    return causal_lower_right(num_queries, context)
