"""Compiled graphs: a model as static or paged graphs of another runtime, in a folder.

`block.py` describes the model once, over the operations of `builder.py`; `onnx_builder.py` and
`openvino_builder.py` emit them. `compile.py` writes a folder with graphs, weights, tokenizer and
manifest. `lanes.py` and `paged.py` run what such a folder holds, and `runner.py` makes a Runner of
that.
"""
