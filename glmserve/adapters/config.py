"""Tells the kinds of adapters apart, and reads their settings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from glmserve.adapters.lora import LoraConfig
from glmserve.adapters.lora_fields import read_lora
from glmserve.adapters.prefix import PrefixAdapterConfig, read_p_tuning, read_prefix_tuning
from glmserve.errors import AdapterError, CheckpointError
from glmserve.model_config.reader import ConfigReader

ADAPTER_CONFIG = "adapter_config.json"
"""What PEFT writes beside an adapter's weights."""
MODEL_CONFIG = "config.json"
"""What the publisher's P-Tuning v2 code writes beside a prefix."""

AdapterConfig = LoraConfig | PrefixAdapterConfig
"""Its `kind` says what it is."""


def read_adapter_config(folder: Path) -> AdapterConfig:
    """Read an adapter's settings. The weights are not read.

    Args:
        folder: as PEFT and programs that use it write it, with adapter_config.json; or as the
            publisher's P-Tuning v2 code does, with pre_seq_len in config.json. Other files in it
            are ignored.

    Raises:
        AdapterError: the folder holds no adapter, a setting is damaged, or glmserve cannot honour
            it; the message names the file and the setting.
    """
    with as_adapter_errors():
        reader = ConfigReader(config_file(folder))
        if reader.path.name == MODEL_CONFIG:
            return read_p_tuning(reader)
        kind = reader.text("peft_type")
        if kind == "LORA":
            return read_lora(reader)
        if kind == "PREFIX_TUNING":
            return read_prefix_tuning(reader)
        raise reader.refuse("peft_type", "glmserve serves LORA and PREFIX_TUNING")


def config_file(folder: Path) -> Path:
    """The file with an adapter's settings.

    Raises:
        AdapterError: the folder does not exist or holds no adapter.
    """
    if not folder.is_dir():
        raise AdapterError(f"{folder}: no such folder; an adapter is a folder")
    if (folder / ADAPTER_CONFIG).is_file():
        return folder / ADAPTER_CONFIG
    if (folder / MODEL_CONFIG).is_file():
        return folder / MODEL_CONFIG
    inner = sorted(path.parent for path in folder.glob(f"*/{ADAPTER_CONFIG}"))
    hint = f"; did you mean {inner[0]}?" if inner else ""
    raise AdapterError(f"{folder}: no {ADAPTER_CONFIG}, so this is no adapter{hint}")


@contextmanager
def as_adapter_errors() -> Iterator[None]:
    """Let errors about a checkpoint's files, and about looking at them, be errors about an
    adapter."""
    try:
        yield
    except CheckpointError as error:
        raise AdapterError(error.message) from None
    except OSError as error:
        raise AdapterError(f"{error.filename}: cannot be read: {error.strerror}") from None
