"""Rewrites a checkpoint with the layers' linear weights rounded to integers.

The result has the layout of the official int8 and int4 checkpoints. For every linear module `X` of
a layer it has `X.weight`, int8 codes [out, in] (4 bits: [out, in/2], the even column in the high
half), and `X.weight_scale`, float16 [out]; config.json has `quantization_bit`. Embedding, output
layer, norms and biases are copied.

Two forms are read by glmserve only: scales of groups of columns, [out, in / group size], with
`quantization_group_size` in config.json; and quantised checkpoints of transformers' in-tree Glm
(`-hf`).
"""
