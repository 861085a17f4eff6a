"""Compiles the products of few rows for each height of a tile, and checks that a row's numbers are
added up in the same order in all of them.

    python tests/kernel_ops/same_order.py

Compared are the instruction of the dots and how they take the columns. All else is summed two by
two, as the order of a longer sum depends on a tile's layout. Products and sums may not be fused, as
a compiler chooses anew for each tile where.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from itertools import product

import torch
from compiler import CHIPS, compiling_for

from glmserve_kernels.few_rows.cases import Codes
from glmserve_kernels.few_rows.plan import ROW_CLASSES
from glmserve_kernels.matmul_add.cases import make_arguments as make_add
from glmserve_kernels.norm_matmul_rope.cases import Shape
from glmserve_kernels.norm_matmul_rope.cases import make_arguments as make_rope
from glmserve_kernels.norm_matmul_silu.cases import make_arguments as make_silu
from glmserve_kernels.operation import Arguments, Maker
from glmserve_kernels.registry import load
from glmserve_kernels.tiles import load_tiles

OPERATIONS = ("matmul_add", "norm_matmul_silu", "norm_matmul_rope")
WEIGHTS = (None, Codes(8), Codes(4), Codes(4, 128), Codes(4, 32))
_LAYOUT = re.compile(r"^(#\w+) = (#ttg\.\S.*)$", re.MULTILINE)
_DOT = re.compile(r"tt\.dot .* : tensor<\d+x(.*)>> \* ")
_WARPS = re.compile(r"warpsPerCTA = \[[^]]*\](, )?")
_REDUCTION = re.compile(r"\"tt\.reduce\"\((.*?)^ *\}\) : \((.*?)\) ->", re.MULTILINE | re.DOTALL)
_OF_TWO = re.compile(r"tensor<[\dx]*x2xf32")
_LOCATION = re.compile(r" ?loc\(.*$", re.MULTILINE)


def arguments_of(name: str, rows: int, codes: Codes | None) -> Arguments:
    """A product of a ChatGLM2-6B."""
    make = Maker(torch.device("meta"), torch.bfloat16)
    if name == "matmul_add":
        return make_add(make, rows=rows, outputs=4096, width=4096, codes=codes)
    if name == "norm_matmul_silu":
        return make_silu(make, rows=rows, ffn=13696, width=4096, codes=codes)
    shape = Shape(rows, 4096, 32, 2, 128, 64, 64)
    return make_rope(make, shape=shape, codes=codes, bias=True, max_positions=32768)


def dots_of(code: str) -> set[str]:
    """Of the dots of a kernel in Triton's language for GPUs: columns and type of the left operand,
    the instruction, and how lanes share the columns."""
    layouts = dict(_LAYOUT.findall(code))

    def written_out(text: str) -> str:
        return re.sub(r"#\w+", lambda found: layouts.get(found[0], found[0]), text)

    return {_WARPS.sub("", written_out(dot)) for dot in _DOT.findall(code)}


def long_sums(code: str) -> list[str]:
    """Sums of more than two numbers, whose order is that of a layout."""
    sums = [what for how, what in _REDUCTION.findall(code) if "addf" in how]
    return [what for what in sums if not _OF_TWO.match(what)]


def check(name: str, chip: str, codes: Codes | None) -> Iterator[str]:
    """What is wrong with a product on a chip."""
    label = f"{name} {chip} {codes.name if codes else 'numbers'}"
    dots = []
    for rows in ROW_CLASSES:
        with compiling_for(CHIPS[chip].target) as kernels:
            load(name).launch(**arguments_of(name, rows, codes), tiles=load_tiles(name, chip))
        (kernel,) = kernels
        code = _LOCATION.sub("", kernel.asm["ttgir"])
        if kernel.metadata.enable_fp_fusion:
            yield f"{label}: products and sums are fused"
        for found in long_sums(code):
            yield f"{label}: a sum of {found}"
        dots.append(dots_of(code))
    if not dots[0] or any(found != dots[0] for found in dots):
        yield f"{label}: dots {dots}"


def main() -> int:
    faulty = []
    for name, chip, codes in product(OPERATIONS, CHIPS, WEIGHTS):
        faulty += check(name, chip, codes)
    print(*faulty, sep="\n", end="\n" * bool(faulty), file=sys.stderr)
    print(f"{len(OPERATIONS) * len(CHIPS) * len(WEIGHTS)} products add up in one order")
    return 1 if faulty else 0


if __name__ == "__main__":
    sys.exit(main())
