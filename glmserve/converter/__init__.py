"""Rewrites a checkpoint with the layers' linear weights rounded to integers.

What it writes has the layout of the official int8 and int4 checkpoints: for every linear module `X`
of a layer `X.weight`, int8 codes [out, in] (4 bits: [out, in/2], the even column in the high
half), and `X.weight_scale`, float16 [out]; in config.json `quantization_bit`. Embedding, output
layer, norms and biases stay as they were.

Only glmserve knows scales of groups of columns, [out, in / group size], where config.json has
`quantization_group_size`, and quantised checkpoints of transformers' in-tree Glm (`-hf`).
"""
