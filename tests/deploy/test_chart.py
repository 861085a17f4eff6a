"""deploy/kubernetes: what the chart renders, for many values, is what Kubernetes takes."""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Mapping
from typing import Any

import pytest

from glmserve.cli.main import build_parser
from glmserve.config import JOURNAL_PASSWORD
from support.helm import KUBERNETES, HelmError, helm, need_helm

need_helm()
yaml = pytest.importorskip("yaml")
validate = pytest.importorskip("kubernetes_validate", reason="needs the deploy extra")

FULL: dict[str, Any] = {
    "model": {"existingClaim": "models", "checkpoint": "/models/chatglm3-6b"},
    "apiKeySecret": "keys",
    "options": ["--quantization", "int8"],
    "resources": {"requests": {"cpu": "4"}, "limits": {"memory": "16Gi"}},
    "serviceMonitor": {"enabled": True},
    "autoscaling": {"enabled": True},
    "networkPolicy": {"enabled": True, "egress": [{"ports": [{"port": 6379}]}]},
    "inferencePool": {"enabled": True, "endpointPicker": "picker"},
}
CASES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "everything": FULL,
    "journal": {**FULL, "journal": {"enabled": True, "storageClass": "fast"}},
    "shared journal": {
        **FULL,
        "journal": {"redis": "rediss://valkey:6379/0", "redisSecret": "valkey"},
    },
    "host path": {"model": {"hostPath": "/srv/models", "checkpoint": "/models/x"}},
    "fetched": {
        "model": {
            "checkpoint": "/models/x",
            "fetch": {"image": "fetcher:1", "command": ["fetch", "x", "/models"]},
        }
    },
    "group": {
        "group": {"size": 2, "keySecret": "group"},
        "options": ["--tensor-parallel-size", "2"],
        "networkPolicy": {"enabled": True},
    },
    "gpu": yaml.safe_load((KUBERNETES / "values-gpu.yaml").read_text()),
    "npu": yaml.safe_load((KUBERNETES / "values-npu.yaml").read_text()),
}
BUILT_IN = {"Deployment", "StatefulSet", "Service", "PodDisruptionBudget", "NetworkPolicy"}
"""Kinds whose schemas come with kubernetes-validate. Others are of extensions."""


def documents(values: Mapping[str, Any]) -> dict[str, Any]:
    """By kind."""
    parsed = [yaml.safe_load(text) for text in helm("documents", values).values()]
    return {document["kind"]: document for document in parsed}


def pod_of(found: Mapping[str, Any]) -> Any:
    """The specification of the pods that answer clients."""
    if "LeaderWorkerSet" in found:
        return found["LeaderWorkerSet"]["spec"]["leaderWorkerTemplate"]["leaderTemplate"]["spec"]
    workload = found.get("Deployment") or found["StatefulSet"]
    return workload["spec"]["template"]["spec"]


@pytest.mark.parametrize("values", CASES.values(), ids=CASES)
def test_kubernetes_takes_it(values: dict[str, Any]) -> None:
    for kind, document in documents(values).items():
        if kind in BUILT_IN:
            validate.validate(document, "1.33", strict=True)
        else:
            assert document["apiVersion"].count("/") == 1


@pytest.mark.parametrize("values", CASES.values(), ids=CASES)
def test_the_server_takes_its_options(values: dict[str, Any]) -> None:
    (container,) = pod_of(documents(values))["containers"]
    options = build_parser().parse_args(["serve", "--host", "0.0.0.0", *container["args"]])
    assert options.port == 8000


@pytest.mark.parametrize("values", CASES.values(), ids=CASES)
def test_pods_have_no_rights(values: dict[str, Any]) -> None:
    pod = pod_of(documents(values))
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["automountServiceAccountToken"] is False
    for container in (*pod["containers"], *pod.get("initContainers", ())):
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize("values", CASES.values(), ids=CASES)
def test_each_probe_has_a_path_of_its_own(values: dict[str, Any]) -> None:
    (container,) = pod_of(documents(values))["containers"]
    probes = [container[f"{name}Probe"] for name in ("startup", "liveness", "readiness")]
    paths = [probe["httpGet"]["path"] for probe in probes]
    assert paths == ["/health/started", "/health/live", "/health/ready"]
    startup = probes[0]
    load_timeout = values.get("loadTimeout", 900)
    assert startup["periodSeconds"] * startup["failureThreshold"] > load_timeout


def test_the_grace_period_follows_from_the_drain_timeout() -> None:
    pod = pod_of(documents({"drainTimeout": 300, "preStopSeconds": 7}))
    assert pod["terminationGracePeriodSeconds"] > 307
    assert "--drain-timeout=300" in pod["containers"][0]["args"]
    assert pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"] == ["sleep", "7"]


def test_members_of_a_group_have_no_probes() -> None:
    """They answer no clients."""
    template = documents(CASES["group"])["LeaderWorkerSet"]["spec"]["leaderWorkerTemplate"]
    (member,) = template["workerTemplate"]["spec"]["containers"]
    assert not {"startupProbe", "livenessProbe", "readinessProbe"} & member.keys()
    assert "--executor=lws" in member["args"]


def test_a_journal_makes_pods_with_volumes_of_their_own() -> None:
    found = documents(CASES["journal"])
    assert "Deployment" not in found
    (claim,) = found["StatefulSet"]["spec"]["volumeClaimTemplates"]
    mounts = pod_of(found)["containers"][0]["volumeMounts"]
    assert {m["name"] for m in mounts} >= {claim["metadata"]["name"]}
    assert found["ScaledObject"]["spec"]["scaleTargetRef"]["kind"] == "StatefulSet"


def test_pods_that_share_a_journal_need_no_volumes() -> None:
    found = documents(CASES["shared journal"])
    assert "StatefulSet" not in found
    assert found["ScaledObject"]["spec"]["scaleTargetRef"]["kind"] == "Deployment"
    (container,) = pod_of(found)["containers"]
    options = build_parser().parse_args(["serve", *container["args"]])
    assert str(options.journal) == "rediss://valkey:6379/0"
    (password,) = [e for e in container["env"] if e["name"] == JOURNAL_PASSWORD]
    assert password["valueFrom"]["secretKeyRef"] == {"name": "valkey", "key": "password"}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"journal": {"redis": "http://valkey"}}, "redis"),
        ({"journal": {"enabled": True, "redis": "redis://valkey"}}, "set one of them"),
        ({"replicas": "two"}, "replicas"),
        ({"replica": 2}, "replica"),
        ({"image": {"pullPolicy": "Sometimes"}}, "pullPolicy"),
        ({"inferencePool": {"enabled": True}}, "inferencePool.endpointPicker"),
        ({"group": {"size": 2}}, "group.keySecret"),
        (
            {"networkPolicy": {"enabled": True}, "journal": {"redis": "redis://valkey:6379/0"}},
            "networkPolicy.egress",
        ),
    ],
)
def test_wrong_values_are_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(HelmError, match=re.escape(said)):
        documents(values)


def test_pods_reach_what_the_values_name() -> None:
    rule = {"to": [{"podSelector": {"matchLabels": {"app": "valkey"}}}], "ports": [{"port": 6379}]}
    values = {
        "networkPolicy": {"enabled": True, "egress": [rule]},
        "journal": {"redis": "redis://valkey:6379/0"},
    }
    policy = documents(values)["NetworkPolicy"]
    validate.validate(policy, "1.33", strict=True)
    assert rule in policy["spec"]["egress"]


def test_the_schema_knows_every_value() -> None:
    schema = yaml.safe_load((KUBERNETES / "chart" / "values.schema.json").read_text())
    values = yaml.safe_load((KUBERNETES / "chart" / "values.yaml").read_text())

    def check(schema: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            assert name in schema["properties"], name
            if isinstance(value, dict) and "properties" in schema["properties"][name]:
                check(schema["properties"][name], value)

    check(schema, values)


def test_the_chart_has_no_mistake() -> None:
    assert helm("lint") == []


def test_the_base_is_the_chart() -> None:
    assert (KUBERNETES / "kustomize" / "base" / "glmserve.yaml").read_text() == helm("base")


def test_this_process_keeps_its_signals() -> None:
    """helm's Go runtime would catch SIGPIPE, which Python ignores; see support/helm.py."""
    assert helm("lint") == []
    assert "helm_python" not in sys.modules
    assert signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN
