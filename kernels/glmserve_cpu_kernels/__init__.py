"""Kernels for x86-64 CPUs, in C++. They know tensors, not requests, and nothing of glmserve.

`src/` is the C++; `build.py` compiles it, once per instruction set, when the package is installed;
`library.py` loads the result, and says why if there is none. Python calls the other modules.
"""
