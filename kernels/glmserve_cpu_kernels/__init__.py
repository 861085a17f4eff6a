"""Kernels for x86-64 CPUs in C++, on tensors. The package imports nothing of glmserve.

`src/` is the C++; `build.py` compiles it, once per instruction set, when the package is installed;
`library.py` loads the result or raises the reason. The other modules are the functions on tensors.
"""
