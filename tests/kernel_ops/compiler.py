"""Compiles kernels for a chip that is not there, and reads what the compiler made of them.

    python tests/kernel_ops/compiler.py                       all, for all chips; compare
    python tests/kernel_ops/compiler.py --one-shape           the first shape of each, in one dtype
    python tests/kernel_ops/compiler.py rms_norm --write      one operation; record what came out

The operations' own launch functions run on tensors without contents (`meta`), with Triton's launch
replaced by its compilation: so what is compiled is, to the specialisation of each argument, what a
server would run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
import triton
from absent_gpu import AbsentDevice
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from glmserve_kernels.operation import Case, Maker, Operation
from glmserve_kernels.registry import NAMES, load
from glmserve_kernels.tiles import load_tiles

RECORDS = Path(__file__).parent / "resources"


class Chip(NamedTuple):
    target: GPUTarget
    shared_memory: int
    """Bytes that one program may use."""


CHIPS = {
    "sm_80": Chip(GPUTarget("cuda", 80, 32), 163 * 1024),
    "sm_90": Chip(GPUTarget("cuda", 90, 32), 227 * 1024),
    "gfx942": Chip(GPUTarget("hip", "gfx942", 64), 64 * 1024),
}

_NVIDIA_INSTRUCTIONS = {
    "HGMMA": r"\bHGMMA",  # wgmma
    "HMMA": r"\bHMMA",
    "LDG128": r"\bLDG\.[A-Z0-9.]*128",
    "STG128": r"\bSTG\.[A-Z0-9.]*128",
    "LDGSTS128": r"\bLDGSTS\.[A-Z0-9.]*128",  # 16-byte cp.async
    "UTMALDG": r"\bUTMALDG",  # bulk tensor copy
    "LDSU8": r"\bLDS\.U8",
    "LDL": r"\bLDL",
    "STL": r"\bSTL",
}
_AMD_INSTRUCTIONS = {
    "MFMA": r"\bv_mfma",
    "LOAD128": r"\b(?:buffer|global)_load_dwordx4",
    "STORE128": r"\b(?:buffer|global)_store_dwordx4",
}


@contextlib.contextmanager
def compiling_for(target: GPUTarget) -> Iterator[list[Any]]:
    """Launches compile instead; yields the kernels as they are compiled."""
    compiled: list[Any] = []
    launch = JITFunction.run
    # Also Triton's default; said aloud because another one is announced for Triton 3.10.
    os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")

    def compile_only(self: Any, *args: Any, **options: Any) -> Any:
        kernel = launch(self, *args, **{**options, "warmup": True})
        if all(kernel is not other for other in compiled):
            compiled.append(kernel)
        return kernel

    driver.set_active(AbsentDevice(target))
    JITFunction.run = compile_only
    try:
        yield compiled
    finally:
        JITFunction.run = launch


def compile_case(operation: Operation, case: Case, dtype: torch.dtype, chip: str) -> list[Any]:
    """The kernels that this case launches."""
    tiles = load_tiles(operation.name, chip)
    with compiling_for(CHIPS[chip].target) as compiled:
        operation.launch(**case.make(Maker(torch.device("meta"), dtype)), tiles=tiles)
    return compiled


def resources(kernel: Any, chip: str) -> dict[str, Any]:
    """Registers, spills, shared memory and telling instructions of a compiled kernel."""
    found = {"shared": kernel.metadata.shared}
    if CHIPS[chip].target.backend == "cuda":
        return found | _nvidia_resources(kernel.asm["cubin"])
    return found | _amd_resources(kernel.asm["amdgcn"])


def _nvidia_resources(cubin: bytes) -> dict[str, Any]:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        usage = _cuobjdump("-res-usage", file.name)
        code = _cuobjdump("-sass", file.name)
    match = re.search(r"REG:(\d+) STACK:(\d+)", usage)
    assert match, usage
    return {
        "registers": int(match[1]),
        "spills": int(match[2]),  # bytes of stack: nothing else uses it
        "instructions": _count(_NVIDIA_INSTRUCTIONS, code),
    }


def _cuobjdump(option: str, path: str) -> str:
    tool = knobs.nvidia.cuobjdump.path
    return subprocess.run([tool, option, path], capture_output=True, text=True, check=True).stdout


def _amd_resources(code: str) -> dict[str, Any]:
    def number(name: str) -> int:
        match = re.search(name + r":\s*(\d+)", code)
        assert match, name
        return int(match[1])

    return {
        "registers": number(r"\.vgpr_count"),
        # Scalar registers spill when too many masks are alive at once.
        "spills": number(r"\.vgpr_spill_count") + number(r"\.sgpr_spill_count"),
        "instructions": _count(_AMD_INSTRUCTIONS, code),
    }


def _count(patterns: dict[str, str], code: str) -> dict[str, int]:
    counts = {name: len(re.findall(pattern, code)) for name, pattern in patterns.items()}
    return {name: count for name, count in counts.items() if count}


def faults(name: str, found: dict[str, Any], chip: str) -> list[str]:
    """What is wrong with a kernel's resources."""
    limit = CHIPS[chip].shared_memory
    wrong = []
    if found["spills"]:
        wrong.append(f"{name}: spills registers ({found['spills']})")
    if found["shared"] > limit:
        wrong.append(f"{name}: {found['shared']} bytes of shared memory, the chip has {limit}")
    return wrong


def surprises(name: str, kernels: Iterable[dict[str, Any]], expects: tuple[str, ...]) -> list[str]:
    """Instructions that none of a case's kernels has; "!X" in `expects`: that one has."""
    there = {instruction for kernel in kernels for instruction in kernel["instructions"]}
    wrong = []
    for expected in expects:
        instruction = expected.removeprefix("!")
        unwanted = expected.startswith("!")
        if (instruction in there) == unwanted:
            wrong.append(f"{name}: {'no ' * (not unwanted)}{instruction}")
    return wrong


def served_on(operation: Operation, chip: str) -> list[tuple[Case, torch.dtype]]:
    """What is measured on this chip."""
    return _on(operation, operation.served, chip)


def compiled_on(operation: Operation, chip: str) -> list[tuple[Case, torch.dtype]]:
    """What is compiled for this chip."""
    return _on(operation, (*operation.served, *operation.compiled), chip)


def _on(operation: Operation, cases: Iterable[Case], chip: str) -> list[tuple[Case, torch.dtype]]:
    return [
        (case, dtype)
        for case in cases
        if chip in (case.chips or operation.chips)
        for dtype in case.dtypes
    ]


def compile_operation(
    operation: Operation, cases: Iterable[tuple[Case, torch.dtype]], chip: str
) -> tuple[dict[str, Any], list[str]]:
    """These cases' kernels: their resources by name, and what is wrong with them."""
    found: dict[str, Any] = {}
    wrong: list[str] = []
    for case, dtype in cases:
        name = f"{case.name}/{str(dtype).removeprefix('torch.')}"
        kernels = {
            f"{name}/{kernel.metadata.name.strip('_')}": resources(kernel, chip)
            for kernel in compile_case(operation, case, dtype, chip)
        }
        for kernel_name, found_now in kernels.items():
            wrong += faults(f"{operation.name} {chip} {kernel_name}", found_now, chip)
        expects = (case.expects or {}).get(chip, ())
        wrong += surprises(f"{operation.name} {chip} {name}", kernels.values(), expects)
        found |= kernels
    return found, wrong


def check_operation(
    name: str, chips: Sequence[str], *, one_shape: bool, write: bool
) -> tuple[int, list[str]]:
    """Compile one operation for some chips: how many kernels, and what is wrong.

    Args:
        one_shape: only the first case of each chip.
        write: record what comes out, instead of comparing it with what is recorded.
    """
    operation = load(name)
    record = _read_record(name)
    same_triton = record["triton"] == triton.__version__
    count, wrong = 0, []
    for chip in chips:
        if chip not in operation.chips:
            continue
        cases = compiled_on(operation, chip)
        found, faulty = compile_operation(operation, cases[:1] if one_shape else cases, chip)
        count += len(found)
        wrong += faulty
        if write:
            record["chips"][chip] = dict(sorted(found.items()))
        elif same_triton:  # another one makes other code: it is only held to the limits
            recorded = record["chips"].get(chip, {})
            if one_shape:
                recorded = {kernel: recorded.get(kernel) for kernel in found}
            wrong += _differences(f"{name} {chip}", recorded, found)
    if write:
        _write_record(name, {**record, "triton": triton.__version__})
    return count, wrong


def _read_record(operation: str) -> dict[str, Any]:
    path = RECORDS / f"{operation}.json"
    if not path.exists():
        return {"triton": triton.__version__, "chips": {}}
    record: dict[str, Any] = json.loads(path.read_text())
    return record


def _write_record(operation: str, record: dict[str, Any]) -> None:
    """One line per kernel, so that a change can be read."""
    chips = []
    for chip, kernels in sorted(record["chips"].items()):
        lines = [f"      {json.dumps(name)}: {json.dumps(item)}" for name, item in kernels.items()]
        chips.append(f'    "{chip}": {{\n' + ",\n".join(lines) + "\n    }")
    text = f'{{\n  "triton": "{record["triton"]}",\n  "chips": {{\n' + ",\n".join(chips)
    RECORDS.mkdir(exist_ok=True)
    (RECORDS / f"{operation}.json").write_text(text + "\n  }\n}\n")


def _differences(name: str, recorded: dict[str, Any], found: dict[str, Any]) -> list[str]:
    return [
        f"{name} {kernel}: recorded {recorded.get(kernel)}, now {found.get(kernel)}"
        for kernel in sorted(recorded.keys() | found.keys())
        if recorded.get(kernel) != found.get(kernel)
    ]


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("operations", nargs="*", choices=[*NAMES, []], help="default: all")
    parser.add_argument("--chip", choices=CHIPS, action="append", help="default: all")
    extent = parser.add_mutually_exclusive_group()
    extent.add_argument("--one-shape", action="store_true", help="the first of each operation")
    extent.add_argument("--write", action="store_true", help="record what comes out")
    options = parser.parse_args()
    names = options.operations or list(NAMES)
    chips = options.chip or list(CHIPS)
    check = partial(check_operation, chips=chips, one_shape=options.one_shape, write=options.write)
    with ProcessPoolExecutor() as pool:
        outcomes = list(pool.map(check, names))
    for _, wrong in outcomes:
        print(*wrong, sep="\n", end="\n" * bool(wrong), file=sys.stderr)
    total = sum(count for count, _ in outcomes)
    print(
        f"triton {triton.__version__}: compiled {total} kernels of {len(names)} operations "
        f"for {', '.join(chips)}"
    )
    return 1 if any(wrong for _, wrong in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
