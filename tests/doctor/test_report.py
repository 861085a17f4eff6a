"""The report in words."""

from __future__ import annotations

import re

import msgspec

from glmserve.cli.doctor.diagnosis import Advice, Checkpoint, Diagnosis, Plan, Problem
from glmserve.cli.doctor.language import Language
from glmserve.cli.doctor.report import render
from glmserve.contract.diagnosis import DeviceFinding, GpuFinding, Machine, Weights

GIB = 2**30

MACHINE = Machine(
    system="Linux 6",
    architecture="x86_64",
    cpu="AMD EPYC",
    cores=8,
    logical_cpus=16,
    cpu_quota=7.5,
    instruction_sets=["avx2", "fma"],
    kernels=None,
    no_kernels_reason="R1",
    total_bytes=64 * GIB,
    available_bytes=60 * GIB,
    limit_bytes=32 * GIB,
    versions={"python": "3.11", "torch": "2.13", "triton": None},
    devices=[DeviceFinding("cuda", False, "R2"), DeviceFinding("cpu", True, "R3")],
    gpus=[GpuFinding("H200", 140 * GIB, 139 * GIB)],
)
CHECKPOINT = Checkpoint(
    path="/m/chatglm2-6b",
    family="ChatGLM2",
    model_type="chatglm",
    num_layers=28,
    max_context=32768,
    stored_dtype="float16",
    stored_bits=4,
    stored_group_size=64,
    prefix_length=128,
    unknown_fields=("f1", "f2"),
    skips_tokenizer=False,
    num_parameters=6_243_584_000,
    vocab_size=64794,
    chat_format="chatglm2",
)
PLAN = Plan(
    changes={},
    device="cpu",
    dtype="bfloat16",
    weight_format="bfloat16",
    kv_cache_format="int8",
    weight_bytes=12 * GIB,
    workspace_bytes=GIB,
    available_bytes=60 * GIB,
    kv_cache_bytes=3 * GIB,
    kv_cache_tokens=104_288,
    max_context=32768,
    users={2048: 50, 1000: 64, 32768: 0},
)
IMPOSSIBLE = msgspec.structs.replace(
    PLAN, changes={"device": "cuda"}, device="cuda", problem="R4", users={}
)
CHANGES: dict[str, str | None] = {"quantization": "int4", "max_model_len": None}
WORKS = Diagnosis(
    can_serve=True,
    exit_code=0,
    problems=[],
    machine=MACHINE,
    checkpoint=CHECKPOINT,
    weights=Weights(7, 12 * GIB, ""),
    plans=[PLAN, IMPOSSIBLE],
    advice=[
        Advice("longer_context", CHANGES, "glmserve serve --x", 99),
        Advice("more_users", CHANGES, "glmserve serve --x", 99),
        Advice("compile_kernels", {}, "glmserve serve --x"),
    ],
    command="glmserve serve",
)
FAILS = Diagnosis(
    can_serve=False,
    exit_code=1,
    problems=[Problem("R5", 1), Problem("R6", 2)],
    machine=msgspec.structs.replace(MACHINE, instruction_sets=[]),
    checkpoint=msgspec.structs.replace(
        CHECKPOINT, stored_bits=None, stored_dtype=None, vocab_size=None
    ),
    weights=Weights(0, 0, "R6"),
    plans=[],
    advice=[Advice("fix", CHANGES, "glmserve serve --x", 99)],
    command="glmserve serve",
)
NAMES = (
    "glmserve doctor serve Linux AMD EPYC Python CPU torch triton avx2 fma cuda cpu GPU H200 "
    "ChatGLM2 clang g chatglm2 float16 bfloat16 int4 int8 token tokens GiB KV quantization "
    "max model len Tuning config json ID m b k x f1 f2 x86_64 R1 R2 R3 R4 R5 R6 P v2"
).split()
"""That are the same in Chinese."""


def test_english() -> None:
    text = render(WORKS, Language.ENGLISH)
    for said in (
        "AMD EPYC; 8 cores to compute with, 16 logical CPUs; the container may take 7.5 CPUs",
        "64.0 GiB, 60.0 GiB available; the container may take 32.0 GiB",
        "device cuda   cannot be used: R2",
        "device cpu    can be used: R3",
        "triton: not installed",
        "ChatGLM2, 28 layers, 6.2 billion parameters",
        "int4, one scale for every 64 columns",
        "P-Tuning v2, 128 slots",
        "f1, f2",
        "users at 1000  users at 2k  users at 32k",
        "104,288   32,768             64           50             -  <- these options",
        "cannot be had",
        "99 tokens of KV cache with --quantization int4 and without --max-model-len",
        "It can be served:\n  glmserve serve",
    ):
        assert said in text, said


def test_what_cannot_be_served() -> None:
    text = render(FAILS, Language.ENGLISH)
    assert "It cannot be served:\n  R5\n  R6\n" in text
    assert "it works with --quantization int4 and without --max-model-len (context 99)" in text
    assert "none that can be used" in text


def test_chinese_leaves_no_english() -> None:
    for diagnosis in (WORKS, FAILS):
        text = render(diagnosis, Language.CHINESE)
        words = set(re.findall("[A-Za-z_][A-Za-z_0-9]*", text)) - set(NAMES)
        assert not words, text
        assert ("可以提供服务" in text) == diagnosis.can_serve


def test_variables_that_a_device_honours() -> None:
    settings = {"BIND_CPU": "1: NUMA node 0, 8 CPUs", "TASK_QUEUE_ENABLE": "2"}
    devices = [DeviceFinding("ascend", True, "8 NPUs", settings)]
    machine = msgspec.structs.replace(MACHINE, devices=devices)
    text = render(msgspec.structs.replace(WORKS, machine=machine), Language.ENGLISH)
    assert re.search("device ascend +can be used: 8 NPUs\n", text)
    assert re.search(
        r"ascend settings +BIND_CPU=1: NUMA node 0, 8 CPUs, TASK_QUEUE_ENABLE=2\n", text
    )


def test_what_modelslim_quantised() -> None:
    checkpoint = msgspec.structs.replace(CHECKPOINT, modelslim_kinds=("FLOAT", "W8A8"))
    text = render(msgspec.structs.replace(WORKS, checkpoint=checkpoint), Language.ENGLISH)
    assert "by ModelSlim: FLOAT, W8A8" in text


def test_little_is_known() -> None:
    """The process that looks has failed, and there is no checkpoint."""
    nothing = msgspec.structs.replace(FAILS, machine=None, checkpoint=None, advice=[])
    assert render(nothing, Language.ENGLISH).count("\n") == 4


def test_a_rank_of_a_group() -> None:
    asked = msgspec.structs.replace(WORKS.plans[0], ranks=2)
    text = render(msgspec.structs.replace(WORKS, plans=[asked]), Language.ENGLISH)
    assert "a rank of 2 <- these options" in text
    asked = msgspec.structs.replace(asked, ranks=4, stages=2)
    text = render(msgspec.structs.replace(WORKS, plans=[asked]), Language.ENGLISH)
    assert "a rank of 4 in 2 stages <- these options" in text
