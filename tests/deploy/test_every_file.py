"""Every file of deploy/ is used by a test, or deploy/README.md says why it has not been run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"
TESTS = Path(__file__).parent
CHART = "kubernetes/chart/"
COVERED = {
    "container/Dockerfile": "test_container.py",
    "container/compose.yaml": "test_compose.py",
    "container/prometheus.yml": "test_compose.py",
    "grafana/dashboard.json": "test_monitoring.py",
    "grafana/make_dashboard.py": "test_monitoring.py",
    "haproxy/haproxy.cfg": "test_proxies.py",
    **{
        f"{CHART}{name}": "test_chart.py"
        for name in ("Chart.yaml", "values.schema.json", "values.yaml")
    },
    **{
        f"{CHART}templates/{name}": "test_chart.py"
        for name in (
            *("NOTES.txt", "_helpers.tpl", "inferencepool.yaml", "networkpolicy.yaml"),
            *("poddisruptionbudget.yaml", "scaledobject.yaml", "service.yaml"),
            *("servicemonitor.yaml", "workload.yaml"),
        )
    },
    "kubernetes/kustomize/base/glmserve.yaml": "test_chart.py",
    "kubernetes/kustomize/base/kustomization.yaml": "test_kustomize.py",
    "kubernetes/kustomize/gpu/kustomization.yaml": "test_kustomize.py",
    "kubernetes/render.py": "test_chart.py",
    "kubernetes/values-gpu.yaml": "test_chart.py",
    "kubernetes/values-npu.yaml": "test_chart.py",
    "nginx/glmserve.conf": "test_proxies.py",
    "prometheus/prometheus.yml": "test_monitoring.py",
    "prometheus/rules.yml": "test_monitoring.py",
    "prometheus/rules_test.yml": "test_monitoring.py",
    "ray/config.yaml": "test_ray_serve.py",
    "ray/launch.py": "test_ray_serve.py",
    "ray/prefix.py": "test_ray_prefix.py",
    "ray/serve_app.py": "test_ray_serve.py",
    "ray/server.py": "test_ray_serve.py",
    "systemd/glmserve.service": "test_systemd.py",
    "systemd/glmserve.socket": "test_systemd.py",
    "vllm-router/run.sh": "test_vllm_router.py",
}
"""Files, and the test that runs, renders or checks each."""


def files() -> set[str]:
    """All but the page itself."""
    return {
        str(path.relative_to(DEPLOY))
        for path in DEPLOY.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    } - {"README.md"}


def not_run() -> dict[str, str]:
    """Files that the page lists, and what it says of each."""
    page = (DEPLOY / "README.md").read_text()
    section = re.search(r"^## What has not been run\n(.*?)^## ", page, re.MULTILINE | re.DOTALL)
    assert section is not None
    return dict(re.findall(r"^\| `([^`]+)` \| (.+) \|$", section[1], re.MULTILINE))


def test_each_file_is_covered_or_said_not_to_be() -> None:
    assert COVERED.keys() | not_run().keys() == files()
    assert not COVERED.keys() & not_run().keys()


def test_what_has_not_been_run_has_a_reason() -> None:
    assert all(len(reason.split()) > 5 for reason in not_run().values())


@pytest.mark.parametrize("name", sorted(set(COVERED.values())))
def test_the_test_reads_the_folder(name: str) -> None:
    text = (TESTS / name).read_text()
    folders = {Path(file).parts[0] for file, test in COVERED.items() if test == name}
    assert all(folder in text for folder in folders)
