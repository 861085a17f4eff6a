"""schemathesis makes requests of /openapi.json: each answer is described there, none is a 500."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from glmserve.api.operator.operations import OPERATIONS, Operation
from support.server_process import ServerProcess

pytestmark = [pytest.mark.clients, pytest.mark.timeout(600)]
schemathesis = pytest.importorskip("schemathesis", reason="the clients extra is missing")

CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
]


@pytest.fixture(scope="module")
def described(server: ServerProcess) -> Any:
    return schemathesis.openapi.from_url(f"{server.url}/openapi.json")


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_requests_as_described(described: Any, operation: Operation) -> None:
    hold_for(described, operation, schemathesis.GenerationMode.POSITIVE)


@pytest.mark.parametrize(
    "operation", [o for o in OPERATIONS if o.request], ids=lambda operation: operation.name
)
def test_requests_that_break_the_description(described: Any, operation: Operation) -> None:
    hold_for(described, operation, schemathesis.GenerationMode.NEGATIVE)


def hold_for(described: Any, operation: Operation, mode: Any) -> None:
    """Make many requests of one mode, and check what comes back."""
    strategy = described[operation.path][operation.method.upper()].as_strategy(mode)

    @settings(max_examples=40, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(case=strategy)
    def hold(case: Any) -> None:
        if isinstance(case.body, dict) and isinstance(case.body.get("model"), str):
            case.body["model"] = "glm-tiny"  # or all ends with 404
        case.call_and_validate(checks=schemathesis.checks.CHECKS.get_by_names(CHECKS), timeout=60)

    hold()
