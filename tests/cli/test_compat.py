"""`glmserve compat`: the table of clients is that of the tests, in the package and in the guide."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from glmserve.cli.compat import (
    ClientRecord,
    read_clients,
    render_markdown,
    render_text,
    table_in_guide,
    write_clients,
)
from glmserve.cli.main import main

NODE = ("ai", "openai", "@openai/agents", "@anthropic-ai/sdk")
CLIENTS = Path(__file__).parents[1] / "clients"


def pinned() -> dict[str, str]:
    """The version of each client that tests/clients installs, by its package."""
    found = dict(json.loads((CLIENTS / "node" / "package.json").read_text())["dependencies"])
    found = {package: found[package] for package in found if package in NODE}
    found |= re.findall(r'"(@[^@"]+)@([\d.]+)"', (CLIENTS / "test_agents.py").read_text())
    for program in (CLIENTS / "programs").glob("*.py"):
        text = program.read_text()
        for package in re.findall(r'version\("([\w-]+)"\)', text):
            (version,) = re.findall(rf'"{package}(?:\[[\w,]+\])?==([\w.]+)"', text)
            found[f"{program.name}: {package}"] = version
    return found


@pytest.mark.parametrize("package", pinned())
def test_the_version_that_is_tested_is_recorded(package: str) -> None:
    """If this fails: pytest -m clients --record-clients"""
    assert pinned()[package] in {client.version for client in read_clients()}


def test_the_guide_has_the_table() -> None:
    """If this fails: pytest -m clients --record-clients"""
    assert table_in_guide() == render_markdown(read_clients())


def test_the_command_prints_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["compat"])
    assert not ended.value.code
    rows = [tuple(re.split(r" {2,}", line)) for line in capsys.readouterr().out.splitlines()]
    expected = [(c.client, c.version, c.api, ", ".join(c.works)) for c in read_clients()]
    assert rows == [("client", "version", "API", "what works"), *expected]


def test_columns_are_as_wide_as_their_longest_cell() -> None:
    record = ClientRecord(client="A client", version="1", api="chat", works=("chat", "stream"))
    assert render_text([record]).splitlines() == [
        "client    version  API   what works",
        "A client  1        chat  chat, stream",
    ]


def test_records_are_written_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page, records = tmp_path / "page.md", tmp_path / "records.json"
    page.write_text("Before\n<!-- glmserve compat -->\nold\n<!-- end -->\nafter\n")
    monkeypatch.setattr("glmserve.cli.compat.PAGE", page)
    monkeypatch.setattr("glmserve.cli.compat.RECORDS", records)
    one = ClientRecord(client="one", version="1", api="chat", works=("chat",))
    two = ClientRecord(client="Two", version="2", api="chat", works=("chat",))
    write_clients([two, one])
    assert read_clients() == [one, two]
    assert table_in_guide() == render_markdown([one, two])
    assert page.read_text().startswith("Before\n")
    assert page.read_text().endswith("<!-- end -->\nafter\n")
