"""deploy/prometheus and deploy/grafana: rules that fire when they should, metrics that exist."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

from glmserve.config import ServerConfig
from glmserve.executor import RankState
from support.fake_server import client_of, serve

DEPLOY = Path(__file__).parents[2] / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
QUERIES = sorted(
    path
    for path in DEPLOY.rglob("*")
    if path.suffix in (".yml", ".yaml", ".json", ".tpl") and path.name != "rules_test.yml"
)
needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool")


@needs_promtool
@pytest.mark.parametrize(
    "command",
    ["check rules rules.yml", "check config prometheus.yml", "test rules rules_test.yml"],
)
def test_promtool(command: str) -> None:
    done = subprocess.run(
        ["promtool", *command.split()], cwd=PROMETHEUS, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def alerts() -> list[str]:
    return re.findall(r"^ +- alert: (\w+)$", (PROMETHEUS / "rules.yml").read_text(), re.MULTILINE)


def test_every_alert_is_tested() -> None:
    tests = (PROMETHEUS / "rules_test.yml").read_text()
    assert set(alerts()) == set(re.findall(r"alertname: (\w+)", tests))


@pytest.mark.parametrize("alert", alerts())
def test_every_alert_has_a_runbook(alert: str) -> None:
    headings = re.findall(r"^#+ (\w+)$", (DEPLOY / "README.md").read_text(), re.MULTILINE)
    assert alert in headings
    rules = (PROMETHEUS / "rules.yml").read_text()
    assert f"runbook: deploy/README.md#{alert.lower()}" in rules


def make_dashboard() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "make_dashboard", DEPLOY / "grafana" / "make_dashboard.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_dashboard_is_what_its_description_makes() -> None:
    script = make_dashboard()
    assert script.PATH.read_text() == script.text()


async def served_metrics(folder: Path) -> set[str]:
    """Names of all samples of a server with a journal."""
    config = ServerConfig("fake", metrics_compat="vllm")
    async with serve(config=config, journal=folder) as app, client_of(app) as client:
        app.state.context.engine.stats.watch_ranks(lambda: [RankState(True, 1, 0)])
        for _ in range(2):
            await client.post("/v1/completions", json={"prompt": "abc", "max_tokens": 3})
        text = (await client.get("/metrics")).text
    samples = set(re.findall(r"^([a-z_:]+)[{ ]", text, re.MULTILINE))
    families = set(re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE))
    return samples | families  # a family with labels has no sample before something happens


async def test_every_metric_in_a_query_exists(tmp_path: Path) -> None:
    known = await served_metrics(tmp_path)
    for path in QUERIES:
        named = re.findall(r"(?<![\w:/])(?:glmserve_|vllm:)[a-z_]+", path.read_text())
        assert set(named) <= known, path


async def test_the_dashboard_and_the_alerts_ask_for_metrics() -> None:
    """The pattern above finds them."""
    for path in ("prometheus/rules.yml", "grafana/dashboard.json"):
        assert len(re.findall(r"glmserve_\w+", (DEPLOY / path).read_text())) > 10
