"""What `glmserve compile` and `combine` print at their end."""

from __future__ import annotations

import shlex

from glmserve.graphs.manifest import Manifest
from glmserve.graphs.vendor.build import VENDOR_RUNTIMES
from glmserve.runner.limits import format_bytes


def render(target: str, manifest: Manifest) -> str:
    """The report as lines of text."""
    weights = manifest.quantization or manifest.dtype
    lines = [
        f"{target}: for {manifest.runtime}, {manifest.attention}; "
        f"weights {weights}, activations {manifest.dtype}; contexts of {manifest.total_len} tokens"
    ]
    lines += [f"{name:24}{format_bytes(entry.size):>12}" for name, entry in manifest.files.items()]
    if manifest.runtime not in VENDOR_RUNTIMES:
        lines.append(f"glmserve serve --checkpoint {shlex.quote(target)}")
    return "\n".join(lines)
