"""Reads adapter_config.json of a LoRA adapter. Each field is honoured, neutral, or refused by name.

The fields are those of PEFT 0.2 to 0.21, and of programs that add their own, such as ms-swift.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar, cast

from glmserve.adapters.fields import asks_for_nothing
from glmserve.adapters.lora import LoraConfig
from glmserve.adapters.selection import Names, Selection, check_expression, layer_expression
from glmserve.model_config.reader import ConfigReader

Number = TypeVar("Number", int, float)

NEUTRAL = frozenset(
    # Bookkeeping, what only training uses, and settings of switches that are refused if they are
    # on. Dropout is off at inference. fan_in_fan_out is for modules that the family lacks: PEFT
    # turns it off for a linear module. merge_weights is PEFT 0.2's; it changes no answer.
    "auto_mapping base_model_name_or_path revision peft_version inference_mode lora_dropout "
    "fan_in_fan_out merge_weights megatron_core runtime_config loftq_config eva_config "
    "corda_config lora_ga_config velora_config qalora_group_size ensure_weight_tying "
    "lora_dtype lorap_lr_ratio lorap_emb_lr swift_type".split()
)
"""Fields that change no answer."""

_REFUSED = {
    "modules_to_save": "whole modules of the model were trained beside it, which is not served",
    "trainable_token_indices": "rows of the embedding were trained beside it, which is not served",
    "target_parameters": "LoRA of single parameters is not served",
    "layer_replication": "the adapter is for a model with repeated layers",
    "enable_lora": "LoRA of parts of a module (PEFT 0.2) is not served",
    "megatron_config": "an adapter of Megatron's modules is not served; convert it to PEFT's",
    "alora_invocation_tokens": "activated LoRA (aLoRA) is not served",
    "use_qalora": "QA-LoRA is not served",
    "use_bdlora": "block-diagonal LoRA is not served",
    "use_qa_lora": "QA-LoRA is not served",
    "monteclora_config": "MonteCLoRA is not served",
    "kasa_config": "KaSA is not served",
    "arrow_config": "Arrow routing of several adapters is not served",
    "model_key_mapping": "renamed modules are not served",
}
"""Fields that ask for what glmserve does not do, unless they are null, false or empty."""

_STARTS = (True, False, None, "gaussian", "eva", "orthogonal")
"""Values of init_lora_weights that leave the model as it is."""
_TASKS = (None, "", "CAUSAL_LM", "SEQ_2_SEQ_LM", "FEATURE_EXTRACTION")
_DEFAULT_TARGETS = ("query_key_value",)
"""PEFT's targets for the family if none are given."""
_LARGEST_RANK = 2**16
_LARGEST = 1e30
"""Far above every alpha, and within the range of float32."""


def read_lora(reader: ConfigReader) -> LoraConfig:
    """Read the fields.

    Raises:
        CheckpointError: a field is of a wrong type, or cannot be honoured.
    """
    _check_start(reader)
    if reader.value("task_type") not in _TASKS:
        raise reader.refuse("task_type", "glmserve generates text, so it needs CAUSAL_LM")
    config = LoraConfig(
        folder=reader.path.parent,
        rank=reader.integer("r", 8, maximum=_LARGEST_RANK),
        alpha=_number(reader, "lora_alpha", reader.value("lora_alpha"), 8.0),
        rank_pattern=_pattern(reader, "rank_pattern", _rank),
        alpha_pattern=_pattern(reader, "alpha_pattern", _number),
        rank_stabilized=reader.boolean("use_rslora", False),
        magnitudes=reader.boolean("use_dora", False),
        bias=_bias(reader),
        bias_of_b=reader.boolean("lora_bias", False),
        selection=_selection(reader),
        base_model=str(reader.value("base_model_name_or_path") or "")[:200],
    )
    for field in ("peft_type", "task_type", "init_lora_weights", "lora_alpha"):
        reader.mark_read(field)
    for field in reader.unread(NEUTRAL):
        if not asks_for_nothing(reader.value(field)):
            raise reader.refuse(field, _REFUSED.get(field, "this field is not known"))
    return config


def _check_start(reader: ConfigReader) -> None:
    """Refuse adapters that belong to a model that training has changed before it began."""
    field = "init_lora_weights"
    if reader.value(field) not in _STARTS:
        raise reader.refuse(
            field,
            "this start of training changes the model's own weights; save the adapter as plain "
            "LoRA (PEFT: save_pretrained with path_initial_model_for_weight_conversion)",
        )


def _bias(reader: ConfigReader) -> Literal["none", "all", "lora_only"]:
    bias = reader.text("bias", "none")
    if bias not in ("none", "all", "lora_only"):
        raise reader.refuse("bias", "expected none, all or lora_only")
    return cast(Literal["none", "all", "lora_only"], bias)


def _selection(reader: ConfigReader) -> Selection:
    targets = _names(reader, "target_modules") or _DEFAULT_TARGETS
    layers = reader.integers("layers_to_transform")
    lists = _names(reader, "layers_pattern")
    lists = (lists,) if isinstance(lists, str) else lists
    for name in lists:
        _check_expression(reader, "layers_pattern", layer_expression(name))
    if layers and isinstance(targets, str):
        raise reader.refuse("layers_to_transform", "only with a list as target_modules")
    return Selection(
        targets=targets,
        excluded=_names(reader, "exclude_modules"),
        layers=frozenset(layers) if layers else None,
        layer_lists=lists,
    )


def _names(reader: ConfigReader, field: str) -> Names:
    """A regular expression, or a list of names; () if the field is missing or empty."""
    reader.mark_read(field)
    value = reader.value(field)
    if value is None or value == "":
        return ()
    if isinstance(value, str):
        _check_expression(reader, field, value)
        return value
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise reader.refuse(field, "expected a string or a list of strings")
    return tuple(sorted(value))


def _pattern(
    reader: ConfigReader, field: str, read: Callable[[ConfigReader, str, Any], Number]
) -> tuple[tuple[str, Number], ...]:
    """Names and numbers, in the file's order."""
    found = []
    for name, value in reader.mapping(field).items():
        _check_expression(reader, field, name)
        found.append((name, read(reader, field, value)))
    return tuple(found)


def _check_expression(reader: ConfigReader, field: str, expression: str) -> None:
    problem = check_expression(expression)
    if problem is not None:
        raise reader.refuse(field, problem)


def _rank(reader: ConfigReader, field: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _LARGEST_RANK:
        raise reader.refuse(field, f"expected whole numbers from 1 to {_LARGEST_RANK}")
    return value


def _number(reader: ConfigReader, field: str, value: Any, default: float | None = None) -> float:
    if value is None and default is not None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise reader.refuse(field, "expected a number")
    if not -_LARGEST < value < _LARGEST:
        raise reader.refuse(field, f"expected a number below {_LARGEST:g}")
    return float(value)
