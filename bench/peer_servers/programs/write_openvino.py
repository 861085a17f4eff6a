"""An OpenVINO model through optimum-intel: write_openvino.py CHECKPOINT TARGET bf16|int8|int4.

bf16 keeps the checkpoint's numbers. NNCF makes smaller ones, symmetric, by its defaults: int8 with
a scale for each row; int4 for each 128 numbers, but embedding and output layer in int8.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nncf
import openvino
from optimum.exporters.openvino import main_export

_MODES = {
    "int8": (nncf.CompressWeightsMode.INT8_SYM, {}),
    "int4": (nncf.CompressWeightsMode.INT4_SYM, {"group_size": 128}),
}


def main() -> None:
    source, target, weights = sys.argv[1:]
    part = Path(target).with_name(Path(target).name + ".part")
    main_export(
        source,
        output=part,
        task="text-generation-with-past",
        convert_tokenizer=False,
        library_name="transformers",
    )
    if weights != "bf16":
        _compress(part, weights)
    part.rename(target)


def _compress(folder: Path, weights: str) -> None:
    """Replaces the model; the old one is mapped into memory until it is deleted."""
    mode, settings = _MODES[weights]
    model = openvino.Core().read_model(folder / "openvino_model.xml")
    model = nncf.compress_weights(model, mode=mode, **settings)
    openvino.save_model(model, folder / "smaller.xml", compress_to_fp16=False)
    for kind in ("xml", "bin"):
        (folder / f"smaller.{kind}").replace(folder / f"openvino_model.{kind}")


if __name__ == "__main__":
    main()
