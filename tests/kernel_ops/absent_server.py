"""Lets a GPU's runner start and serve without a GPU, and accounts for what it asks of one.

    python tests/kernel_ops/absent_server.py [defaults int4 ...]

* After its start, no step needs another kernel, or records another graph.
* It allocates no more than planned, byte by byte: what is there after loading is known exactly.

Every tensor is `meta`, of the shapes of a ChatGLM2-6B with two layers, and launches do nothing.
What work allocates while it is recorded is the memory of all graphs: torch keeps it for them, and
gives it to nothing else. Not counted is what a GPU's allocator and libraries take: rounding,
fragmentation, the workspaces of cuBLAS. compile_server.py compiles the kernels as well, which takes
minutes.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import torch
from absent_gpu import launching_nothing
from compile_server import BLOCK_SIZE, AbsentAccelerator, AbsentGraph, Prepared, prepare, serve
from compiler import CHIPS
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from glmserve.contract.step import RunnerInfo
from glmserve.runner.gpu_memory import gpu_memory_needs
from glmserve.runner.gpu_step_memory import float_bytes, step_memory
from glmserve.runner.graph_memory import GraphSpecs
from glmserve.runner.graph_shapes import graph_shapes
from glmserve.runner.static_steps import static_adapters

MIB = 2**20
SMALL = 16 * MIB
"""Rotary table, last tokens, allowed ids: counted among libraries."""
OPTIONS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "batch256": {"max_batch_size": 256},
    "short": {"max_batch_size": 64, "max_step_tokens": 64},
    "int8kv": {"kv_cache_dtype": "int8"},
    "int4": {"quantization": "int4"},
    "fp8": {"quantization": "fp8"},
    "adapters": {"max_adapters": 4},
    "deterministic": {"deterministic": True},
}


class Account(TorchDispatchMode):
    """Bytes of `meta` tensors that are alive, and the most there have been."""

    def __init__(self) -> None:
        super().__init__()
        self.live = 0
        self.peak = 0
        self.graphs = 0
        """The most that one recording allocated."""
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and leaf.device.type == "meta":
                self._add(leaf.untyped_storage())
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        address, size = storage._cdata, storage.nbytes()
        if address in self._known:
            return
        self._known.add(address)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._remove, address, size)

    def _remove(self, address: int, size: int) -> None:
        self._known.remove(address)
        self.live -= size

    def record(self, work: Callable[[], None]) -> None:
        """Work whose allocations belong to graphs."""
        before, peak = self.live, self.peak
        self.peak = before
        work()
        self.graphs = max(self.graphs, self.peak - before)
        self.peak = peak


class AccountedAccelerator(AbsentAccelerator):
    def __init__(self, account: Account) -> None:
        super().__init__()
        self._account = account

    def capture(self, work: Callable[[], None]) -> Any:
        self.graphs += 1
        self._account.record(work)
        return AbsentGraph()


def check(name: str) -> list[str]:
    """What is wrong with a runner of OPTIONS; prints the account."""
    target_gpu = CHIPS["sm_90"].target
    with launching_nothing(target_gpu) as kernels, torch.inference_mode(), Account() as account:
        prepared = prepare("sm_90", kv_cache_tokens=2**18, **OPTIONS[name])
        accelerator = AccountedAccelerator(account)
        runner = prepared.load(accelerator)
        loaded, recorded, specialised = account.live, accelerator.graphs, len(kernels)
        for seed in range(2):
            serve(runner, 40, seed)
    wrong = [f"{name}: compiled while serving: {kernel}" for kernel in kernels[specialised:]]
    if accelerator.graphs > recorded:
        wrong.append(f"{name}: {accelerator.graphs - recorded} graphs recorded while serving")
    print(f"{name}: {specialised} kernels, {recorded} graphs")
    for part, (found, most) in compare(prepared, runner.info, account, loaded).items():
        print(f"  {part}: {found / MIB:.1f} of {most / MIB:.1f} MiB")
        if found > most:
            wrong.append(f"{name}: {part}: {found} bytes, more than {most}")
    return wrong


def compare(
    prepared: Prepared, info: RunnerInfo, account: Account, loaded: int
) -> dict[str, tuple[int, int]]:
    """Bytes that were found and the most that there may be, by the name of the part.

    Args:
        loaded: that were there when nothing had run.
    """
    config, model, target, _ = prepared
    needs = gpu_memory_needs(config, model, target, BLOCK_SIZE, 2**40)
    plan = step_memory(config, model, target, needs.max_step_tokens)
    logits = float_bytes(config.batch_size * model.vocab_size)
    planner = static_adapters(target.ops) if config.max_adapters else None
    specs = GraphSpecs(target.ops.attention, planner, config.max_adapters)
    shapes = graph_shapes(config.batch_size, needs.max_step_tokens, model.max_context)
    shared = specs.num_bytes(shapes)
    room = needs.workspace - plan.total
    kept = info.weight_bytes + info.kv_cache_bytes + room + logits + shared
    return {
        "after loading": (loaded, kept + SMALL),
        "of which planned": (kept, loaded),
        "steps": (account.peak - loaded, plan.step + plan.logits - logits),
        "graphs": (account.graphs, plan.graphs - shared),
        "all": (
            account.peak + account.graphs,
            needs.weights + info.kv_cache_bytes + needs.workspace,
        ),
    }


def main() -> int:
    wrong = [fault for name in sys.argv[1:] or OPTIONS for fault in check(name)]
    print(*wrong, sep="\n", end="\n" * bool(wrong), file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
