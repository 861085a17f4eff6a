"""Calls a vendor's compiler where it is installed, and otherwise says what to do where it is."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

from glmserve.config import CompilationConfig
from glmserve.errors import DeviceError
from glmserve.graphs.manifest import Manifest

VENDOR_RUNTIMES = frozenset({"vacc", "compass"})
"""What glmserve compiles for and does not execute."""

_SERVED_BY = {
    "vacc": "The vendor's VastStreamX runs compiled graphs, and `vastgenx serve --model "
    "FOLDER/vacc_deploy/NAME` serves what vamc has made of the checkpoint.",
    "compass": "The vendor's infer/demo_ngf_bf16.py runs --engine FOLDER/NAME_multi.ngf.",
}
_PUBLISHED = (
    "The vendor's own flow begins with the checkpoint: copy config_vacc.json, and\n"
    "modeling_chatglm_vacc.py and quantization_vacc.py of https://github.com/Vastai/VastModelZOO,\n"
    "into the checkpoint's folder, edit tp in hf_chatglm_*.yaml, and run vamc compile with one."
)
_NEVER_RUN = "No such card or compiler was at hand: what it makes of these files is not known."


def build(compilation: CompilationConfig) -> str:
    """Compile the written folder if the vendor's compiler is here.

    Returns:
        What was done, or what to copy where, as lines of text.

    Raises:
        DeviceError: the vendor's compiler failed.
    """
    target, vendor = Path(compilation.target), compilation.runtime
    lines = [_NEVER_RUN]
    command = _command(compilation)
    if command is None:
        lines.append(_instruction(compilation))
    else:
        print(f"running {shlex.join(command)}", flush=True)
        result = subprocess.run(command, cwd=target, check=False)
        if result.returncode:
            raise DeviceError(
                f"{shlex.join(command)}: the vendor's compiler failed with exit code "
                f"{result.returncode}; its messages are above, and {target} is complete"
            )
        lines.append(f"{target}: compiled by the vendor's compiler.")
    if vendor == "vacc":
        lines.append(_PUBLISHED)
    lines.append(_SERVED_BY[vendor].replace("FOLDER", str(target)))
    return "\n".join(lines)


def refusal_to_serve(folder: Path, manifest: Manifest) -> str:
    """Why glmserve does not serve a vendor's folder, and what does."""
    served = _SERVED_BY[manifest.runtime].replace("FOLDER", str(folder))
    return (
        f"{folder}: compiled for the vendor's own runtime ({manifest.runtime}), which glmserve "
        f"does not drive. {served} For glmserve, compile the checkpoint with --for onnx"
    )


def _command(compilation: CompilationConfig) -> list[str] | None:
    """The command that compiles; None: the compiler is not here."""
    script = str(Path(compilation.target) / "build.sh")
    if compilation.runtime == "vacc":
        return ["sh", script] if shutil.which("vamc") else None
    scripts = compilation.vendor_scripts
    return ["sh", script, scripts] if scripts else None


def _instruction(compilation: CompilationConfig) -> str:
    if compilation.runtime == "vacc":
        return (
            "vamc is not installed here: copy the folder to a machine that has it, and run\n"
            "sh build.sh there."
        )
    return (
        "Copy the folder into the vendor's container, clone\n"
        "https://github.com/hexaflakeai/ChatGLM2-6B, and run sh build.sh ChatGLM2-6B/compile.\n"
        "--vendor-scripts ChatGLM2-6B/compile does that at once where the compiler is installed."
    )
