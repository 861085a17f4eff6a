"""What `glmserve compile` prints at its end."""

from __future__ import annotations

import shlex

from glmserve.config import CompilationConfig
from glmserve.graphs.manifest import Manifest
from glmserve.runner.limits import format_bytes


def render(compilation: CompilationConfig, manifest: Manifest) -> str:
    """The report as lines of text."""
    weights = manifest.quantization or manifest.dtype
    lines = [
        f"{compilation.target}: for {manifest.runtime}, {manifest.attention}; "
        f"weights {weights}, activations {manifest.dtype}; contexts of {manifest.total_len} tokens"
    ]
    lines += [f"{name:24}{format_bytes(entry.size):>12}" for name, entry in manifest.files.items()]
    lines.append(f"glmserve serve --checkpoint {shlex.quote(compilation.target)}")
    return "\n".join(lines)
