"""Imports go one way: a module imports its own layer or a lower one, and planning never computes.

The layers are drawn in ARCHITECTURE.md.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "glmserve"

LAYERS: dict[str, int] = {
    **dict.fromkeys(("errors", "config", "contract", "model_config", "process", "request"), 0),
    "adapters": 0,
    "ops": 2,
    "models": 3,
    "runner": 4,
    "converter": 4,
    "graphs": 4,
    "devices": 5,
    "worker": 5,
    "probe": 5,
    "golden": 5,
    "cache": 6,
    "hub": 6,
    "batches": 6,
    "journal": 6,
    "scheduler": 7,
    "executor": 8,
    "engine": 8,
    "machines": 8,
    "trace": 8,
    "text": 9,
    "api": 10,
    "evaluation": 10,
    "load_test": 10,
    "capacity": 10,
    "cli": 11,
    "embedded": 11,
    "conformance": 11,
    "__main__": 11,
    "__init__": 12,  # names what Python programs use
}
API_LAYERS = {
    "protocol": 0,
    "journaling": 1,
    "answering": 2,
    "http": 3,
    "openai": 4,
    "anthropic": 4,
    "tokenizer": 5,
    "batching": 5,
    "endpoints": 5,
    "page": 6,
    "operator": 7,
    "app": 8,
    "__init__": 9,
}
"""Rooms of glmserve.api; each imports itself and lower ones."""
PLAN = {"cache", "scheduler", "journal", "engine", "executor", "trace", "text", "api"}
PLAN |= {"evaluation", "capacity", "cli", "embedded", "hub", "machines", "batches", "load_test"}
COMPUTE = range(1, 6)
KERNEL_PACKAGES = {"glmserve_kernels", "glmserve_cpu_kernels"}
COMPUTE_LIBRARIES = {"torch", "triton", "safetensors", "numpy", "transformers", *KERNEL_PACKAGES}

KERNELS = PACKAGE.parent / "kernels"
KERNEL_MODULES = sorted(p for name in KERNEL_PACKAGES for p in (KERNELS / name).rglob("*.py"))

MODULES = [p for p in PACKAGE.rglob("*.py") if "assets" not in p.parts]


def layer_name(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    """Every module named in an import statement, at any depth of the file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "glmserve":
                yield from (f"glmserve.{alias.name}" for alias in node.names)
            yield node.module


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down(path: Path) -> None:
    own = layer_name(path)
    for module in imports(path):
        top, _, rest = module.partition(".")
        if own in PLAN:
            assert top not in COMPUTE_LIBRARIES, f"{own} plans, so it must not import {module}"
        if top != "glmserve" or not rest:
            continue
        other = rest.split(".")[0]
        if other not in LAYERS:  # `from glmserve import __version__`
            continue
        assert LAYERS[other] <= LAYERS[own], f"layer {LAYERS[own]} imports {module} above it"
        if own in PLAN:
            assert LAYERS[other] not in COMPUTE, f"{own} plans, so it must not import {module}"


def test_every_module_has_a_layer() -> None:
    assert {layer_name(path) for path in MODULES} <= LAYERS.keys()


API_MODULES = sorted((PACKAGE / "api").rglob("*.py"))


@pytest.mark.parametrize("path", API_MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_within_the_api_go_down(path: Path) -> None:
    own = path.relative_to(PACKAGE / "api").parts[0].removesuffix(".py")
    for module in imports(path):
        if module.startswith("glmserve.api."):
            other = module.split(".")[2]
            assert other == own or API_LAYERS[other] < API_LAYERS[own], f"{own} imports {module}"


def test_answering_knows_no_http() -> None:
    for path in API_MODULES:
        if {"answering", "journaling", "protocol"} & set(path.parts):
            libraries = {module.split(".")[0] for module in imports(path)}
            assert not libraries & {"starlette", "sse_starlette", "uvicorn"}, path


def test_no_module_of_the_api_imports_itself_through_others() -> None:
    """At run time: imports under TYPE_CHECKING would hide a circle, and there are none."""
    graph = {module_name(path): set(imports(path)) for path in API_MODULES}
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join([*trail, module])
        if module in done or module not in graph:
            return
        for other in graph[module]:
            visit(other, (*trail, module))
        done.add(module)

    for module in graph:
        visit(module, ())


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


@pytest.mark.parametrize("path", KERNEL_MODULES, ids=lambda p: str(p.relative_to(KERNELS)))
def test_kernels_know_nothing_of_the_server_or_each_other(path: Path) -> None:
    own = path.relative_to(KERNELS).parts[0]
    strangers = {"glmserve", *KERNEL_PACKAGES} - {own}
    assert not [module for module in imports(path) if module.split(".")[0] in strangers]


def test_operations_use_triton_only_in_kernels() -> None:
    """References, cases and planners must import where there is no Triton."""
    for path in KERNEL_MODULES:
        if path.name not in ("kernel.py", "cases.py"):
            assert "triton" not in {module.split(".")[0] for module in imports(path)}, path
