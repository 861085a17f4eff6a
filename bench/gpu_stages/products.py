"""cuBLAS at the products of a model: what a step's matrix products take at best.

    python -m gpu_stages.products [--rows FILE]

One row for each matrix of a layer, the output layer, and each number of rows: microseconds, bytes
per second, operations per second, and the fraction of the GPU's floor.
"""

from __future__ import annotations

from functools import partial

import torch

from gpu_ceilings import Ceilings, floor_seconds
from gpu_stages import rows
from gpu_stages.target import Target, open_target, program_parser
from gpu_timing import Launch, rotation, seconds_per_launch
from step_floor import SHAPES, Shape

_BATCHES = (1, 16, 64, 256, 2048)


def matrices(shape: Shape) -> dict[str, tuple[int, int]]:
    """Outputs and inputs of each matrix."""
    query, key = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    return {
        "qkv": (query + 2 * key, shape.hidden),
        "attention output": (shape.hidden, query),
        "gate and up": (2 * shape.ffn, shape.hidden),
        "down": (shape.hidden, shape.ffn),
        "output layer": (shape.vocab, shape.hidden),
    }


def measure_product(
    target: Target, ceilings: Ceilings, outputs: int, inputs: int, batch: int
) -> rows.Row:
    """y [batch, outputs] = x [batch, inputs] times the transpose of w [outputs, inputs]."""
    element = torch.bfloat16.itemsize
    touched = element * (outputs * inputs + batch * (outputs + inputs))
    free = 2**26 if target.practice else torch.cuda.mem_get_info()[0]
    count = rotation(touched, element * outputs * inputs, target.l2_bytes, free)
    new = partial(torch.randn, device=target.device)
    weights = [new(outputs, inputs).to(torch.bfloat16) for _ in range(count)]
    x = new(batch, inputs).to(torch.bfloat16)
    out = torch.empty(batch, outputs, dtype=x.dtype, device=target.device)
    launches: list[Launch] = [partial(torch.mm, x, w.t(), out=out) for w in weights]
    seconds = seconds_per_launch(launches, target.timer, budget=0.05)
    flops = 2 * batch * outputs * inputs
    floor, bound = floor_seconds(touched, flops, ceilings)
    return {
        "us": round(1e6 * seconds, 2),
        "gigabytes_per_second": round(touched / seconds / 1e9),
        "teraflops": round(flops / seconds / 1e12, 1),
        "bound": bound,
        "fraction": round(floor / seconds, 3),
    }


def main() -> None:
    options = program_parser(__doc__).parse_args()
    target = open_target(practice=options.practice)
    ceilings = target.ceilings(options.rows)
    shape = SHAPES["tiny" if options.practice else "chatglm2-6b"]
    for name, (outputs, inputs) in matrices(shape).items():
        for batch in _BATCHES[:2] if options.practice else _BATCHES:
            found = measure_product(target, ceilings, outputs, inputs, batch)
            rows.append(options.rows, "product", {"matrix": name, "rows": batch, **found})


if __name__ == "__main__":
    main()
