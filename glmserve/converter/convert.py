"""Converts a checkpoint tensor by tensor. At most a few tensors and one output file are in
memory, except during a calibration."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import torch

from glmserve.config import ConversionConfig, LoadProgress, ReportProgress
from glmserve.converter.folder import appearing_whole, copy_other_files, write_config
from glmserve.converter.layout import Layout, OfficialLayout, PlainLayout
from glmserve.converter.merging import Merger
from glmserve.converter.modelslim import modelslim_layout
from glmserve.converter.shards import SHARD_BYTES, ShardWriter
from glmserve.errors import CheckpointError, OptionError
from glmserve.model_config import ModelConfig, read_model_config
from glmserve.models.checkpoint_files import weight_files
from glmserve.models.parameters import is_layer_weight
from glmserve.models.weights import StoredTensor, stored_tensors


@dataclass
class Report:
    """The result of a conversion."""

    errors: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Kind of module (qkv, dense, ...) to the relative errors of its weights, see RoundedWeight."""
    source_bytes: int = 0
    target_bytes: int = 0
    files: int = 0


def convert(
    conversion: ConversionConfig, progress: ReportProgress, shard_bytes: int = SHARD_BYTES
) -> Report:
    """Write the target folder. It gets its name when it is complete.

    Args:
        progress: called with bytes of stored tensors done, and bytes of the source files; before
            that, with what a calibration has done.
        shard_bytes: largest size of a file of weights, unless a single tensor is larger.

    Raises:
        CheckpointError: the source is broken, not supported, or quantised already; or the adapter
            is, or does not fit it.
        OptionError: --group-size does not fit the weights.
        OSError: a file cannot be read or written, or the target is not empty.
    """
    source = Path(conversion.source)
    # The meaning of rope_ratio does not matter here, so any value will do.
    model = read_model_config(source, rope_scaling="base")
    _check(conversion, model)
    adapter = conversion.merge_adapter
    merger = None if adapter is None else Merger(Path(adapter), model)
    report = Report()
    total = sum(path.stat().st_size for path in weight_files(source))
    layout = _layout(conversion, model, source, progress)
    with appearing_whole(Path(conversion.partial), Path(conversion.target)) as folder:
        writer = ShardWriter(folder, shard_bytes, layout.weights_name)
        for stored in stored_tensors(model, source):
            changed = stored if merger is None else merger.merged(stored)
            _convert_tensor(changed, stored.tensor.dtype, layout, writer, report)
            report.source_bytes += stored.tensor.nbytes
            progress(LoadProgress("weights", report.source_bytes, total))
        report.files, report.target_bytes = writer.finish(), writer.total_bytes
        copy_other_files(model.path.parent, folder)
        write_config(model.path, folder, layout.config_fields())
        layout.finish(folder)
    return report


def _layout(
    conversion: ConversionConfig, model: ModelConfig, source: Path, progress: ReportProgress
) -> Layout:
    if conversion.layout == "modelslim":
        return modelslim_layout(conversion, model, source, progress)
    if conversion.bits is None:
        return PlainLayout()
    return OfficialLayout(conversion.bits, conversion.group_size)


def _check(conversion: ConversionConfig, model: ModelConfig) -> None:
    if model.stored_bits is not None:
        raise CheckpointError(f"{model.path}: quantised to {model.stored_bits} bits already")
    for width in model.linear_widths:
        if conversion.group_size is not None and width % conversion.group_size:
            raise OptionError(
                f"--group-size {conversion.group_size} does not divide the {width} columns that "
                "some weights of this model have"
            )
        if conversion.bits == 4 and width % 2:
            raise OptionError(f"{width} columns of 4 bits do not fill whole bytes")


def _convert_tensor(
    stored: StoredTensor,
    dtype: torch.dtype,
    layout: Layout,
    writer: ShardWriter,
    report: Report,
) -> None:
    """Write a tensor.

    Args:
        stored: float32 if an adapter was merged into it.
        dtype: of the tensor in the source.
    """
    parameter = stored.placement.parameter if stored.placement else ""
    if not is_layer_weight(parameter):
        layout.keep(stored.name)
        kept = stored.tensor.to(dtype).clone(memory_format=torch.contiguous_format)
        writer.add(stored.name, kept)
        return
    try:
        error_size, tensors = layout.round(stored, dtype)
    except ValueError as error:
        raise CheckpointError(f"{stored.path}: {stored.name}: {error}") from None
    for name, tensor in tensors.items():
        writer.add(name, tensor)
    report.errors[parameter.split(".")[-2]].append(error_size)
