"""deploy/kubernetes/kustomize, built by kubectl: the chart's objects, and what a GPU changes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

yaml = pytest.importorskip("yaml")
TREE = Path(__file__).parents[2] / "deploy" / "kubernetes" / "kustomize"

pytestmark = pytest.mark.skipif(not shutil.which("kubectl"), reason="needs kubectl")


def built(folder: str) -> dict[tuple[str, str], Any]:
    """The objects by kind and name."""
    command = ["kubectl", "kustomize", str(TREE / folder)]
    output = subprocess.run(command, check=True, capture_output=True, timeout=60).stdout
    return {(o["kind"], o["metadata"]["name"]): o for o in yaml.safe_load_all(output)}


def test_the_base_is_the_chart() -> None:
    rendered = yaml.safe_load_all((TREE / "base" / "glmserve.yaml").read_text())
    assert built("base") == {(o["kind"], o["metadata"]["name"]): o for o in rendered if o}


def test_a_gpu_changes_image_device_and_resources_alone() -> None:
    base, gpu = built("base"), built("gpu")
    (plain,), (changed,) = (
        objects.pop(("Deployment", "glmserve"))["spec"]["template"]["spec"]["containers"]
        for objects in (base, gpu)
    )
    assert gpu == base
    assert changed["image"] == "glmserve-cuda:0.1.0"
    assert changed["args"] == [*plain["args"], "--device=cuda"]
    assert changed["resources"] == {"limits": {"nvidia.com/gpu": 1}}
    same = plain.keys() - {"image", "args", "resources"}
    assert {key: changed[key] for key in same} == {key: plain[key] for key in same}
