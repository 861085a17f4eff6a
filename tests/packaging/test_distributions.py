"""Which files the wheel and the source distribution hold: none too many, none too few.

Built as pip builds them, but without compiling: that takes minutes.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]

WHEEL = r"""
    glmserve/(\w+/)*\w+\.py
    glmserve/py\.typed
    glmserve/assets/glm-tiny/(config\.json|tokenizer_config\.json|model\.safetensors|tokenizer\.model)
    glmserve/assets/clients\.json
    glmserve/assets/evaluation/[\w.]+\.(jsonl|csv)
    glmserve/assets/device-template/(README\.md|pyproject\.toml|src/example_glm_device/\w+\.py)
    glmserve/assets/training/README\.md
    glmserve/assets/training/text/[\w.]+\.toml
    glmserve/guide/[\w.-]+\.(md|svg|png)
    glmserve/web/\w+\.(html|js)
    glmserve/web/(app|app/parts|app/parts/board|app/board|docs)/\w+\.js
    glmserve/web/style/\w+\.(css|svg)
    glmserve/web/vendor/manifest\.json
    glmserve/web/vendor/\w+/(\w+\.(js|css)|LICENSE[\w-]*\.txt|fonts/[\w-]+\.woff2)
    glmserve_kernels/(\w+/)?\w+\.py
    glmserve_kernels/\w+/tiles\.json
    glmserve_kernels/py\.typed
    glmserve_cpu_kernels/\w+\.py
    glmserve_cpu_kernels/py\.typed
    glmserve_cpu_kernels/_kernels\.so
    glmserve_cpu_kernels/src/\w+\.(cpp|h)
    glmserve-[\w.]+\.dist-info/(METADATA|WHEEL|RECORD|entry_points\.txt|licenses/LICENSE)
""".split()

SOURCE = r"""
    (LICENSE|PKG-INFO|pyproject\.toml|\.gitignore)
    \w+(\.\w+)?\.md
    glmserve/([\w-]+/)*[\w.-]+\.(py|typed|json|jsonl|csv|safetensors|model|md|toml|html|svg|png)
    glmserve/([\w-]+/)*[\w.-]+\.(js|css|txt|woff2)
    kernels/(\w+/)*\w+\.(py|typed|json|md|cpp|h)
    bench/([\w-]+/)*[\w.-]+\.(py|sh|md|json|toml|txt|svg|png)
    tests/([\w-]+/)*[\w.-]+
""".split()

IN_BOTH = (
    "glmserve/__init__.py",
    "glmserve/cli/main.py",
    "glmserve/py.typed",
    "glmserve/assets/glm-tiny/model.safetensors",
    "glmserve/assets/evaluation/exam.csv",
    "glmserve/assets/evaluation/letters.jsonl",
    "glmserve/assets/training/text/en_long.toml",
    "glmserve/web/docs.html",
    "glmserve/web/index.html",
    "glmserve/web/app/main.js",
    "glmserve/web/vendor/manifest.json",
)


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a wheel and a source distribution of this checkout."""
    folder = tmp_path_factory.mktemp("distributions")
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(folder)],
        cwd=REPOSITORY,
        env={**os.environ, "GLMSERVE_CPU_KERNELS": "off"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def wheel(distributions: Path) -> set[str]:
    (path,) = distributions.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def source(distributions: Path) -> set[str]:
    """Without the folder that they are all in."""
    (path,) = distributions.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        return {name.partition("/")[2] for name in archive.getnames()}


def unexpected(names: set[str], patterns: list[str]) -> list[str]:
    allowed = re.compile("|".join(f"(?:{pattern})" for pattern in patterns))
    return sorted(name for name in names if not allowed.fullmatch(name))


def modules(*folders: str) -> set[str]:
    """Paths of a checkout's modules, from the folder that is on Python's path."""
    return {
        path.relative_to((REPOSITORY / folder).parent).as_posix()
        for folder in folders
        for path in (REPOSITORY / folder).rglob("*.py")
    }


def test_the_wheel_holds_nothing_else(wheel: set[str]) -> None:
    assert unexpected(wheel, WHEEL) == []


def test_the_wheel_holds_every_module_and_what_it_reads(wheel: set[str]) -> None:
    packages = modules("glmserve", "kernels/glmserve_kernels", "kernels/glmserve_cpu_kernels")
    left_out = {name for name in packages if name.startswith("glmserve/assets/training/")}
    assert packages - left_out <= wheel
    assert not left_out & wheel
    assert set(IN_BOTH) <= wheel
    tiles = (REPOSITORY / "kernels").glob("glmserve_kernels/*/tiles.json")
    assert {path.relative_to(REPOSITORY / "kernels").as_posix() for path in tiles} <= wheel


def test_a_wheel_without_compiled_kernels_runs_anywhere(distributions: Path) -> None:
    (path,) = distributions.glob("*.whl")
    assert path.name.endswith("-py3-none-any.whl")


def test_the_source_distribution_holds_nothing_else(source: set[str]) -> None:
    assert unexpected(source, SOURCE) == []
    compiled = (".o", ".so", ".pyc", ".partial")
    assert not [name for name in source if name.endswith(compiled)]


def test_the_source_distribution_can_be_built_and_tested(source: set[str]) -> None:
    assert modules("glmserve", "kernels", "tests", "bench") <= source
    assert set(IN_BOTH) <= source
    sources = (REPOSITORY / "kernels" / "glmserve_cpu_kernels" / "src").iterdir()
    assert {path.relative_to(REPOSITORY).as_posix() for path in sources} <= source
    assert {"pyproject.toml", "README.md", "LICENSE", "kernels/hatch_build.py"} <= source
