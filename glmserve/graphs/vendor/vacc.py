"""Vastai's cards (VACC): what can be compiled for them, and the build files of their compiler.

The published flow of ChatGLM2, ChatGLM3 and GLM-4 begins with the checkpoint: the vendor's compiler
`vamc` exports the graphs itself, by the vendor's version of the model's code. It also takes ONNX
graphs, as published for other models. Build files are written for both. Sources: llm/README.md,
llm/chatglm2/build_in, llm/chatglm4/build_in and nlp/text2vec/bge in
github.com/Vastai/VastModelZOO.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import onnx

from glmserve.config import CompilationConfig, Quantization
from glmserve.graphs import names
from glmserve.graphs.vendor.build_files import as_yaml
from glmserve.model_config import ModelConfig
from glmserve.model_config.reader import read_json_object

_CARDS = 4
"""tensor parallel size in the published files"""

_CODE = {
    "AutoConfig": "configuration_chatglm.ChatGLMConfig",
    "AutoModel": "modeling_chatglm_vacc.ChatGLMForConditionalGeneration",
    "AutoModelForSeq2SeqLM": "modeling_chatglm_vacc.ChatGLMForConditionalGeneration",
}
"""auto_map of the published config_vacc.json"""

_SCRIPT = """\
#!/bin/sh
# Compiles the graphs of this folder with Vastai's compiler, into vacc_deploy.
# It was never run with that compiler: none was at hand.
set -e
cd "$(dirname "$0")"
for file in base*.yaml incremental*.yaml; do
    vamc compile "$file"
done
"""


def write_files(
    compilation: CompilationConfig,
    model: ModelConfig,
    graphs: Sequence[str],
    quantization: Quantization | None,
    total_len: int,
    folder: Path,
) -> None:
    """Write the build files of the graphs, those of the checkpoint, and a script.

    Args:
        graphs: files of the ONNX graphs.
        quantization: of their linear weights.
    """
    dtype = "int8" if quantization or model.stored_bits else "fp16"
    for graph in graphs:
        if graph.startswith((names.BASE, names.incremental(0)[:-1])):
            path = folder / graph
            path.with_suffix(".yaml").write_text(as_yaml(_of_graph(path, dtype)))
    shapes = [[compilation.prompt_len], [total_len]]
    for name, build in _of_checkpoint(Path(compilation.source).resolve(), shapes):
        (folder / f"hf_chatglm_{name}.yaml").write_text(as_yaml(build), encoding="utf-8")
    config = {**read_json_object(model.path), "auto_map": _CODE, "insert_slice": True}
    text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    (folder / "config_vacc.json").write_text(text, encoding="utf-8")
    (folder / "build.sh").write_text(_SCRIPT, encoding="utf-8")


def _of_graph(path: Path, dtype: str) -> dict[str, object]:
    """The build file of an ONNX graph, with its real inputs."""
    inputs = onnx.load(path, load_external_data=False).graph.input
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in inputs
    }
    return {
        "name": path.stem,
        "frontend": {"checkpoint": path.name, "shape": shapes},
        "backend": {
            "type": "tvm_vacc",
            "dtype": dtype,
            "compile": {"cluster_mode": 0, "data_type": 0},
        },
        "workspace": {"path": "./vacc_deploy"},
    }


def _of_checkpoint(
    checkpoint: Path, shapes: list[list[int]]
) -> Iterator[tuple[str, dict[str, object]]]:
    """The published build files, for this checkpoint: names and contents."""
    formats = {"fp16": None, "int8": "w8a16_gptq", "kv8": "w16kv8"}
    lengths = "-".join(str(shape[0]) for shape in shapes)
    for name, quantization in formats.items():
        frontend: dict[str, object] = {
            "checkpoint": str(checkpoint),
            "type": "huggingface",
            "shape": {"input_ids": shapes},
            "model_kwargs": {"b2s": True, "tp": _CARDS, "model_arch": "vacc"},
        }
        if quantization:
            frontend["quantize"] = {"type": quantization}
        yield (
            name,
            {
                "name": f"{checkpoint.name}-{name}-tp{_CARDS}-{lengths}",
                "frontend": frontend,
                "backend": {
                    "type": "tvm_vacc",
                    "dtype": "fp16" if name == "fp16" else "int8",
                    "merge_params": True,
                    "compile": {"data_type": 0, "gather_data_vccl_dsp_enable": True},
                },
                "workspace": {"path": "./vacc_deploy", "workers": 4},
            },
        )
