"""Assigns blocks of the KV cache to requests. Integers and hashes only: K/V live in the runner."""

from glmserve.cache.block_manager import BlockManager, BlockMap
from glmserve.cache.block_pool import BlockPool

__all__ = ["BlockManager", "BlockMap", "BlockPool"]
