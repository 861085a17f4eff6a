"""Refuses, by name, what other programs make of checkpoints and glmserve does not read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from glmserve.errors import CheckpointError
from glmserve.model_config.reader import ConfigReader, read_json_object

_ADAPTER = "adapter_config.json"

_METHODS = {
    "gptq": "GPTQ",
    "awq": "AWQ",
    "bitsandbytes": "bitsandbytes",
    "compressed-tensors": "compressed-tensors",
    "fp8": "FP8",
    "fbgemm_fp8": "FP8",
    "modelopt": "ModelOpt",
}
_SEPARATE_FILES = {
    "quantize_config.json": "GPTQ",
    "quant_config.json": "AWQ",
    "hf_quant_config.json": "ModelOpt",
}
"""Files in which older versions of these programs describe what they did to the weights."""

_KEYS = ("quantization_config", "compression_config")


def refuse_adapter(folder: Path) -> None:
    """Refuse a folder that holds an adapter alone.

    Raises:
        CheckpointError: it does; the message names its base model, and what to do.
    """
    path = folder / _ADAPTER
    if not path.is_file() or ((folder / "config.json").exists() and not _is_alone(folder)):
        return
    adapter = read_json_object(path)
    base = adapter.get("base_model_name_or_path")
    of_base = f" for {base[:200]!r}" if isinstance(base, str) and base else ""
    kind = adapter.get("peft_type")
    named = f"{kind} adapter" if isinstance(kind, str) else "adapter"
    raise CheckpointError(
        f"{folder}: only an adapter ({named}{of_base}), not a model; serve its base model with "
        "--adapter NAME=FOLDER, or merge it with `glmserve convert BASE TARGET --merge-adapter "
        "FOLDER`"
    )


def _is_alone(folder: Path) -> bool:
    """Whether the only weights in a folder are an adapter's."""
    weights = [path.name for path in folder.iterdir() if path.suffix in (".safetensors", ".bin")]
    return bool(weights) and all(name.startswith("adapter_model") for name in weights)


def refuse_foreign_quantization(reader: ConfigReader) -> None:
    """Refuse weights that another program quantised.

    Raises:
        CheckpointError: they are; the message names the method.
    """
    for key in _KEYS:
        config = reader.mapping(key)
        if config:
            raise _refusal(f"{reader.path}: {key}", _method(config))
    for name, method in _SEPARATE_FILES.items():
        if (reader.path.parent / name).is_file():
            raise _refusal(f"{reader.path.with_name(name)}", method)


def _method(config: dict[str, Any]) -> str:
    name = config.get("quant_method")
    if isinstance(name, str) and name:
        method = _METHODS.get(name.lower(), name[:100])
        kind = config.get("format") or config.get("fmt")
        return f"{method} ({kind[:100]})" if isinstance(kind, str) and kind else method
    if config.get("load_in_4bit") or config.get("load_in_8bit"):
        return "bitsandbytes"
    return "an unknown method"


def _refusal(where: str, method: str) -> CheckpointError:
    return CheckpointError(
        f"{where}: the weights are quantised by {method}, which glmserve does not read; serve the "
        "checkpoint from which they were made, with --quantization int8 or int4 for less memory"
    )
