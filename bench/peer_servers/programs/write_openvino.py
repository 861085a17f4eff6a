"""An OpenVINO model through optimum-intel: write_openvino.py CHECKPOINT TARGET bf16|int8|int4."""

from __future__ import annotations

import sys
from pathlib import Path

from optimum.exporters.openvino import main_export
from optimum.intel import OVConfig, OVWeightQuantizationConfig


def main() -> None:
    source, target, weights = sys.argv[1:]
    part = Path(target).with_name(Path(target).name + ".part")
    main_export(
        source,
        output=part,
        task="text-generation-with-past",
        ov_config=_smaller(weights),
        convert_tokenizer=False,
        library_name="transformers",
    )
    part.rename(target)


def _smaller(weights: str) -> OVConfig | None:
    """Symmetric codes; None keeps the checkpoint's bfloat16."""
    if weights == "bf16":
        return None
    bits = int(weights.removeprefix("int"))
    return OVConfig(quantization_config=OVWeightQuantizationConfig(bits=bits, sym=True))


if __name__ == "__main__":
    main()
