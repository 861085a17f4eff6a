"""The benchmark of accuracy: what it compares, on a few of glm-tiny's answers."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import accuracy


def test_costs() -> None:
    exact = accuracy.Scores(np.log([0.5, 0.25, 0.5]), np.array([1, 2, 3]))
    other = accuracy.Scores(np.log([0.5, 0.5, 0.25]), np.array([1, 2, 4]))
    assert exact.perplexity == pytest.approx(16 ** (1 / 3))
    cost = accuracy.compare(other, exact)
    assert cost.mean_change == pytest.approx(np.log(2) * 2 / 3)
    assert cost.max_change == pytest.approx(np.log(2))
    assert cost.other_best == pytest.approx(1 / 3)


def test_a_few_answers(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = "--tokens 300 --dtype float32 --quantization int8 --kv-cache-dtype fp8".split()
    monkeypatch.setattr(sys, "argv", ["accuracy.py", *arguments])
    accuracy.main()
    text, int8, fp8 = capsys.readouterr().out.splitlines()
    assert float(text.rpartition(" ")[2]) < 3  # it learnt these answers
    assert int8.startswith("--quantization int8: perplexity ")
    assert "0.00e+00" not in int8
    assert fp8.startswith("--kv-cache-dtype fp8: ")  # which only GPUs have
    assert "perplexity" not in fp8
