"""Triton kernels for the GLM block. They know tensors, not requests, and nothing of glmserve.

One folder per operation: `kernel.py` is the kernel and the function that launches it,
`reference.py` the same in float64 torch, `cases.py` the shapes it is checked, compiled and measured
on, `tiles.json` the tile sizes for each chip.
"""
