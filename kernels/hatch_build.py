"""Compiles the CPU kernels while glmserve is installed or packed into a wheel.

Where that fails the wheel is one of plain Python, and a CPU computes with torch's own kernels.
GLMSERVE_CPU_KERNELS=off leaves them out; =required makes a failure an error, for published wheels.
"""

from __future__ import annotations

import importlib.util
import os
import platform
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

VARIABLE = "GLMSERVE_CPU_KERNELS"


class CpuKernels(BuildHookInterface[Any]):
    """The build hook of pyproject.toml."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        wish = os.environ.get(VARIABLE, "")
        if self.target_name != "wheel" or wish == "off":
            return
        kernels = _build_module(Path(self.root) / "kernels")
        try:
            if not kernels.is_current():
                kernels.build()
        except kernels.BuildError as error:
            if wish == "required":
                raise
            self.app.display_warning(f"CPU kernels are left out: {error}")
            return
        build_data["artifacts"].append(f"/{kernels.LIBRARY.relative_to(self.root)}")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-linux_{platform.machine()}"


def _build_module(folder: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "cpu_kernels_build", folder / "glmserve_cpu_kernels" / "build.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
