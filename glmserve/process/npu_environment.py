"""Reads the environment variables of Ascend NPUs."""

from __future__ import annotations

from collections.abc import Mapping

from glmserve.config import NpuEnvironment


def npu_environment(environment: Mapping[str, str]) -> NpuEnvironment:
    """The variables that the ascend device honours; it checks their values."""
    return NpuEnvironment(
        visible_devices=environment.get("ASCEND_RT_VISIBLE_DEVICES"),
        bind_cpu=environment.get("BIND_CPU"),
        allocator=environment.get("PYTORCH_NPU_ALLOC_CONF"),
        task_queue=environment.get("TASK_QUEUE_ENABLE"),
    )
