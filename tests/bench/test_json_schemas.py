"""json_schemas.py counts what is honoured, and sees what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import glmserve
import json_schemas
from glmserve.text import load_tokenizer

GOOD = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
CASES: list[dict[str, Any]] = [
    {"name": "good", "schema": GOOD, "valid": [{"a": 1}], "invalid": [{"a": "x"}, {}]},
    {"name": "order", "schema": {"const": {"a": 1, "b": 2}}, "valid": [{"b": 2, "a": 1}]},
    {"name": "lenient", "schema": {"pattern": "a(?!b)"}, "valid": []},
    {"name": "refused", "schema": {"not": {}}, "valid": []},
    # The data, not the schema, is wrong here: 1 is valid.
    {"name": "wrong", "schema": {"type": "integer"}, "valid": [], "invalid": [1]},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    lines = (json.dumps({"invalid": [], **case}) for case in CASES)
    (tmp_path / json_schemas.MASKBENCH).write_text("\n".join(lines))
    suite = tmp_path / json_schemas.TEST_SUITE / "optional"
    suite.mkdir(parents=True)
    tests = [{"data": 3, "valid": True}, {"data": "x", "valid": False}]
    group = {"description": "numbers", "schema": {"type": "number"}, "tests": tests}
    (suite / "type.json").write_text(json.dumps([group]))
    return tmp_path


async def test_counts(folder: Path) -> None:
    assets = Path(glmserve.__file__).parent / "assets" / "glm-tiny"
    tried = json_schemas.Tried(load_tokenizer(assets))
    try:
        cases = [*json_schemas.maskbench(folder / json_schemas.MASKBENCH)]
        counts = await json_schemas.run(tried, cases, verbose=False)
        suite = [*json_schemas.test_suite(folder / json_schemas.TEST_SUITE)]
        of_suite = await json_schemas.run(tried, suite, verbose=True)
    finally:
        await tried.compiler.close()
    assert (counts["strict"], counts["lenient"], counts["refused"]) == (3, 1, 1)
    assert counts["wrong"] == 1
    assert counts["valid instances"] == 2
    assert counts["valid instances not accepted"] == 1
    assert [case.name for case in suite] == ["optional/type.json: numbers"]
    assert of_suite["strict"] == 1 and "wrong" not in of_suite
