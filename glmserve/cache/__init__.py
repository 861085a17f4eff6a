"""Who owns which block of the KV cache. Integers and hashes only: the K/V live in the runner."""

from glmserve.cache.block_manager import BlockManager
from glmserve.cache.block_pool import BlockPool

__all__ = ["BlockManager", "BlockPool"]
