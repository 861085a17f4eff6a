"""Every call of the ascend device against the vendor's package, and its record in the tests.

`pytest -m npu` installs torch_npu into an environment of its own. Without the vendor's driver it
can be imported over libraries whose functions do nothing, which a C compiler makes here. Then its
schemas and its shape functions work, on torch's meta device.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from support.ascend_simulator.library import RECORD

ROOT = Path(__file__).parents[2]
ANSWERS = {
    "aclrtGetDeviceCount": "int {name}(unsigned *count) {{ *count = 0; return 0; }}",
    "aclrtGetSocName": 'const char *{name}(void) {{ return "Ascend910B3"; }}',
    "aclGetRecentErrMsg": 'const char *{name}(void) {{ return ""; }}',
}
NOTHING = "int {name}(void) {{ return 0; }}"
OWN = ("Py", "_Py", "dl", "pthread")
"""Beginnings of symbols that Python and the C library have."""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with torch_npu, beside the packages of this one."""
    if not (shutil.which("cc") and shutil.which("nm") and shutil.which("readelf")):
        pytest.skip("needs a C compiler and binutils")
    folder = tmp_path_factory.mktemp("npu") / "environment"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "base.pth").write_text(sysconfig.get_path("purelib"))
    pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, f"torch-npu=={RECORD['torch_npu']}"], check=True)
    make_libraries(packages / "torch_npu", folder / "stubs")
    return folder


def make_libraries(package: Path, folder: Path) -> None:
    """The vendor's driver libraries, with functions that do nothing."""
    import torch

    own = [*package.glob("*.so"), *package.glob("lib/*.so")]
    known = [*own, *(Path(torch.__file__).parent / "lib").glob("*.so*")]
    wanted = {name for path in own for name in symbols(path, "--undefined-only")}
    missing = wanted - {name for path in known for name in symbols(path, "--defined-only")}
    folder.mkdir()
    source = folder / "driver.c"
    lines = [
        ANSWERS.get(name, NOTHING).format(name=name)
        for name in sorted(missing)
        if not name.startswith(OWN)
    ]
    source.write_text("\n".join(lines) + "\n")
    empty = folder / "empty.c"
    empty.write_text("")
    for library in needed(own) - {path.name for path in known}:
        code = source if library == "libascendcl.so" else empty
        command = ["cc", "-shared", "-fPIC", "-o", str(folder / library), str(code)]
        subprocess.run(command, check=True)


def symbols(path: Path, which: str) -> set[str]:
    """Names that a library defines or lacks, but for those of the C library, which have versions,
    and those that may be missing (weak)."""
    lines = run_tool("nm", "-D", which, str(path)).splitlines()
    found = {tuple(line.split()[-2:]) for line in lines if len(line.split()) > 1}
    return {name.split("@")[0] for kind, name in found if _counts(kind, name, which)}


def _counts(kind: str, name: str, which: str) -> bool:
    return which == "--defined-only" or ("@" not in name and kind.lower() not in "wv")


def needed(libraries: list[Path]) -> set[str]:
    """Names of the vendor's libraries that these load."""
    found = set()
    for path in libraries:
        text = run_tool("readelf", "-d", str(path))
        found |= set(re.findall(r"\(NEEDED\).*\[(.*)\]", text))
    system = re.compile(r"ld-linux|lib(c|m|dl|rt|pthread|gcc_s|stdc\+\+)\.so")
    return {name for name in found if not system.match(name)}


def run_tool(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.npu
@pytest.mark.timeout(600)
def test_the_vendor_accepts_every_call(environment: Path) -> None:
    path = os.pathsep.join(str(ROOT / part) for part in (".", "kernels", "tests"))
    done = subprocess.run(
        [environment / "bin" / "python", ROOT / "tests" / "ascend" / "vendor_calls.py"],
        env={
            **os.environ,
            "PYTHONPATH": path,
            "LD_LIBRARY_PATH": str(environment / "stubs"),
            "TORCH_DEVICE_BACKEND_AUTOLOAD": "0",
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "all calls checked" in done.stdout


@pytest.mark.npu
def test_a_driver_that_is_missing_breaks_no_other_device(environment: Path) -> None:
    """torch_npu is installed, and its libraries are not there: `import torch` would fail."""
    python = environment / "bin" / "python"
    broken = subprocess.run([python, "-c", "import torch"], capture_output=True, text=True)
    assert broken.returncode, "importing torch is no trouble any more"
    path = os.pathsep.join(str(ROOT / part) for part in (".", "kernels"))
    doctor = subprocess.run(
        [python, "-m", "glmserve", "doctor", "--device", "cpu"],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr
    assert re.search(r"device ascend +\S+.*davinci0", doctor.stdout), doctor.stdout


OPEN = """
from glmserve.process.torch_environment import prepare_for_torch
prepare_for_torch()
from glmserve.devices.torch_npu import TorchNpu
from glmserve.errors import DeviceError
try:
    TorchNpu().open(0)
except DeviceError as error:
    print(error.message)
import torch
print(torch.ones(2).sum())
"""


@pytest.mark.npu
@pytest.mark.parametrize(
    ("with_libraries", "reason"), [(False, "cannot open shared object file"), (True, "")]
)
def test_an_npu_that_cannot_be_opened(environment: Path, with_libraries: bool, reason: str) -> None:
    """Without the driver's libraries, and with libraries that find no NPU: one line says so."""
    path = os.pathsep.join(str(ROOT / part) for part in (".", "kernels"))
    libraries = {"LD_LIBRARY_PATH": str(environment / "stubs")} if with_libraries else {}
    done = subprocess.run(
        [environment / "bin" / "python", "-c", OPEN],
        env={**os.environ, "PYTHONPATH": path, **libraries},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    *_, message, total = done.stdout.splitlines()
    assert message.startswith("--device ascend: torch_npu cannot use the NPU: ")
    assert reason in message
    assert total == "tensor(2.)"
