"""The operations of a GLM block, by device and by kind.

`base.py` has all of them in plain torch. `cpu/` and `gpu/` override them one by one and select
what a model gets; `attention/`, `linear/` and `sampling/` hold what they are made of.
"""
