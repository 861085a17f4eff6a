"""bench/adapter_cost.py, on a tiny shape: that it measures what it says."""

from __future__ import annotations

import pytest

import adapter_cost


def test_it_compares_steps_with_and_without_adapters(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = "--shape tiny --batch 4 --adapters 2 --rank 3 8 --context 40 --steps 1"
    monkeypatch.setattr("sys.argv", ["adapter_cost.py", *options.split()])
    adapter_cost.main()
    first, *lines = capsys.readouterr().out.splitlines()
    assert first.startswith("shape tiny, cpu")
    assert [line.split(":")[0] for line in lines] == ["rank 3", "rank 8"]
    assert all("with 2 adapters in a batch of 4" in line for line in lines)
