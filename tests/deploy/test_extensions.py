"""deploy/kubernetes: the objects of extensions, held against the extensions' published schemas.

KEDA's and prometheus-operator's are on npm. InferencePool and LeaderWorkerSet have none on npm or
PyPI (2026-11-30): these objects are only rendered.
"""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from support.helm import need_helm

pytest.importorskip("yaml")
need_helm()

from deploy.test_chart import CASES, documents  # noqa: E402

SOURCE = Path(__file__).with_name("extensions")
KINDS = ("ScaledObject", "ServiceMonitor")
pytestmark = [
    pytest.mark.deploy,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not shutil.which("npm"), reason="needs node and npm"),
]


@pytest.fixture(scope="module")
def checker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the schemas and the script."""
    folder = tmp_path_factory.mktemp("extensions")
    shutil.copytree(SOURCE, folder, dirs_exist_ok=True)
    install = ["npm", "install", "--no-audit", "--no-fund", "--silent"]
    subprocess.run(install, cwd=folder, check=True, timeout=200)
    return folder


def complaints(checker: Path, document: Any) -> str:
    done = subprocess.run(
        ["node", "check.mjs"],
        cwd=checker,
        input=json.dumps(document),
        capture_output=True,
        text=True,
        timeout=100,
    )
    text = done.stdout + done.stderr
    assert (done.returncode != 0) == bool(text), text
    return text


@pytest.mark.parametrize("case", ["everything", "journal"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_extension_takes_it(checker: Path, kind: str, case: str) -> None:
    assert complaints(checker, documents(CASES[case])[kind]) == ""


@pytest.mark.parametrize(
    ("kind", "path", "value", "said"),
    [
        ("ScaledObject", ["maxReplicaCount"], "many", "maxReplicaCount must be integer"),
        ("ScaledObject", ["maxReplicas"], 3, "'\"maxReplicas\"' does not exist"),
        ("ScaledObject", ["triggers", 0, "typ"], "x", "'\"typ\"' does not exist"),
        ("ServiceMonitor", ["endpoints", 0, "interval"], "often", "interval"),
        ("ServiceMonitor", ["endpoints", 0, "paths"], "/metrics", "'\"paths\"' does not exist"),
    ],
)
def test_a_mistake_is_found(
    checker: Path, kind: str, path: list[Any], value: object, said: str
) -> None:
    document = copy.deepcopy(documents(CASES["everything"])[kind])
    place = document["spec"]
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    assert said in complaints(checker, document)
