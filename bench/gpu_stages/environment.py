"""Which GPU this is, which versions, and its ceilings: what other figures are read against.

    python -m gpu_stages.environment [--rows FILE]

Rows: "gpu" with names and versions; "ceilings" in bytes and operations per second.
"""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import subprocess

from gpu_stages import rows
from gpu_stages.target import open_target, program_parser

_PACKAGES = ("torch", "triton", "transformers", "numpy", "starlette", "uvicorn")


def main() -> None:
    options = program_parser(__doc__).parse_args()
    for tool in ("nvidia-smi", "rocm-smi"):
        if shutil.which(tool):
            subprocess.run([tool], check=False)
    target = open_target(practice=options.practice)
    row = {**target.description, "python": platform.python_version()}
    rows.append(options.rows, "gpu", {**row, "packages": _versions()})
    rows.append(options.rows, "ceilings", target.ceilings(None)._asdict())


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


if __name__ == "__main__":
    main()
