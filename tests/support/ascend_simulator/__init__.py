"""The vendor's calls of an Ascend NPU, computed by a CPU under the vendor's own schemas.

schemas.json   what `record.py` found in the vendor's package
kernels        the calls: `elementwise`, `products`, `cache`, `attention`
library        registers them
device         the ascend device over them: a plugin that a server can find
"""
