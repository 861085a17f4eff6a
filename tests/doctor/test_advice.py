"""What is advised, and the command for it."""

from __future__ import annotations

import shlex

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmserve.cli.doctor.advice import advise, serve_command
from glmserve.cli.doctor.diagnose import users
from glmserve.cli.main import build_parser
from glmserve.cli.options import runner_config
from glmserve.contract.diagnosis import Attempt, Machine
from glmserve.contract.step import RunnerLimits

MACHINE = Machine(
    system="Linux",
    architecture="x86_64",
    cpu="any",
    cores=2,
    logical_cpus=4,
    cpu_quota=None,
    instruction_sets=["avx2"],
    kernels="avx2",
    no_kernels_reason="",
    total_bytes=2**34,
    available_bytes=2**33,
    limit_bytes=None,
    versions={},
    devices=[],
    gpus=[],
)


def attempt(tokens: int, context: int, **changes: str | None) -> Attempt:
    """What comes of changes; 0 tokens: nothing."""
    limits = RunnerLimits(tokens // 32, 32, 64, 512, context) if tokens else None
    return Attempt(changes=changes, device="cpu", limits=limits, problem="" if tokens else "no")


def kinds(attempts: list[Attempt], machine: Machine | None = MACHINE) -> list[str]:
    return [f"{a.kind}: {a.command}" for a in advise(attempts, [], machine, 2048)]


def test_nothing_to_change() -> None:
    assert kinds([attempt(8192, 2048), attempt(8192, 2048, kv_cache_dtype="int8")]) == []
    assert kinds([]) == []


def test_more_users() -> None:
    attempts = [
        attempt(4096, 2048),
        attempt(4160, 2048, kv_cache_dtype="fp8"),
        attempt(8192, 2048, kv_cache_dtype="int8"),
        attempt(9999, 2048, quantization="int4"),
    ]
    assert kinds(attempts) == ["more_users: glmserve serve --kv-cache-dtype int8"]


def test_a_longer_context() -> None:
    attempts = [
        attempt(1024, 1024),
        attempt(1024, 1024, kv_cache_dtype="int8"),
        attempt(0, 0, quantization="int8"),
        attempt(2048, 2048, quantization="int4"),
    ]
    assert kinds(attempts) == ["longer_context: glmserve serve --quantization int4"]


def test_what_makes_it_fit_one_of_each_kind() -> None:
    attempts = [
        attempt(0, 0),
        attempt(0, 0, kv_cache_dtype="int8"),
        attempt(64, 64, quantization="int8"),
        attempt(128, 128, quantization="int4"),
        attempt(64, 64, kv_cache_tokens=None),
        attempt(64, 64, device="cpu"),
    ]
    assert kinds(attempts) == [
        "fix: glmserve serve --quantization int8",
        "fix: glmserve serve",
        "fix: glmserve serve --device cpu",
    ]


def test_nothing_helps() -> None:
    assert kinds([attempt(0, 0), attempt(0, 0, quantization="int4")]) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, 1),
        ({"kernels": "avx2"}, 0),
        ({"architecture": "aarch64", "instruction_sets": ["asimd"]}, 1),
        ({"architecture": "riscv64"}, 0),
        ({"instruction_sets": []}, 0),
    ],
)
def test_kernels_that_could_be_compiled(change: dict[str, object], said: int) -> None:
    machine = msgspec.structs.replace(MACHINE, **{"kernels": None, **change})
    assert len(kinds([attempt(8192, 2048)], machine)) == said
    assert kinds([attempt(8192, 2048)], None) == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("", "--quantization int4"),
        ("--checkpoint '/a b' --quantization int8", "--checkpoint '/a b' --quantization int4"),
        ("--quantization=int8 --seed 3", "--seed 3 --quantization int4"),
        ("--max-model-len 99 --seed 3", "--seed 3 --quantization int4"),
    ],
)
def test_the_command(arguments: str, expected: str) -> None:
    changes = {"quantization": "int4", "max_model_len": None}
    command = serve_command(shlex.split(arguments), changes)
    assert command == f"glmserve serve {expected}"


@given(
    st.lists(
        st.sampled_from(
            ["--seed 3", "--max-model-len 99", "--quantization=int8", "--kv-cache-dtype fp8"]
        )
    ),
    st.sampled_from([None, "int4", "w8a8"]),
    st.sampled_from([None, "int8"]),
)
def test_the_command_means_what_was_tried(
    given_options: list[str], quantization: str | None, kv_cache_dtype: str | None
) -> None:
    changes = {"quantization": quantization, "kv_cache_dtype": kv_cache_dtype}
    command = serve_command(" ".join(given_options).split(), changes)
    config = runner_config(build_parser().parse_args(shlex.split(command)[1:]))
    assert config.quantization == quantization
    assert config.kv_cache_dtype == (kv_cache_dtype or "auto")
    assert config.max_model_len == (99 if "--max-model-len 99" in given_options else None)


@given(st.integers(1, 500), st.sampled_from([16, 32, 64]), st.integers(1, 64), st.integers(1, 4096))
def test_users_have_room(blocks: int, size: int, most: int, context: int) -> None:
    limits = RunnerLimits(blocks, size, most, 512, min(2048, blocks * size))
    count = users(limits, context)
    needed = -(-context // size)
    assert count <= most
    assert count * needed <= blocks
    if context <= limits.max_context:
        assert count >= 1
        assert count == most or (count + 1) * needed > blocks
    else:
        assert count == 0
