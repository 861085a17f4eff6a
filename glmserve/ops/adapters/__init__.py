"""What adapters add to the products of a step: y += B (A x) + bias, for each token its adapter's.

An adapter is in a *slot*, 0 to the number of slots less one. `rows.py` groups a step's tokens by
slot. Each Ops has slots of its own kind: `plain.py` for every device, `native.py` for CPUs,
`triton.py` for GPUs.
"""
