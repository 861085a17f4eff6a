"""Compares a member with the leader: they must serve the same model with the same options."""

from __future__ import annotations

import msgspec

from glmserve.config import RunnerConfig
from glmserve.errors import CheckpointError
from glmserve.journal.checkpoint_files import checkpoint_file, checkpoint_folders
from glmserve.journal.fingerprint import fingerprint

_LOCAL = ("checkpoint", "ptuning_checkpoint", "cpus", "numa_node", "npu", "threads", "debug")
"""Fields that each machine sets for itself."""
_OF_LEADER = ("vocab_limit", "never_sampled", "group", "adapters")
"""Fields that are no options: the leader sets them."""


def differences(leader: RunnerConfig, member: RunnerConfig) -> list[str]:
    """The options that must be equal and are not, each as "--name is X there and Y here"."""
    return [
        f"--{name.replace('_', '-')} is {_shown(theirs)} there and {_shown(ours)} here"
        for name in RunnerConfig.__struct_fields__
        if name not in (*_LOCAL, *_OF_LEADER)
        and (theirs := getattr(member, name)) != (ours := getattr(leader, name))
    ]


def fingerprint_of(config: RunnerConfig) -> str:
    """Of the files of the model, as they are on this machine.

    Raises:
        CheckpointError: they cannot be read.
    """
    try:
        return fingerprint(checkpoint_folders(config), [checkpoint_file(config)])
    except OSError as error:
        raise CheckpointError(f"cannot be read: {error}") from None


def with_local_options(config: RunnerConfig, local: RunnerConfig) -> RunnerConfig:
    """A worker's config with what its machine sets for itself.

    Args:
        config: the leader's.
        local: the machine's own.
    """
    return msgspec.structs.replace(config, **{name: getattr(local, name) for name in _LOCAL})


def _shown(value: object) -> str:
    return "not given" if value is None else str(value)
