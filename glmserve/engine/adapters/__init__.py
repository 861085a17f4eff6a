"""Adapters of a running server: their names and versions, and which of them the runner holds."""

from glmserve.engine.adapters.catalog import AdapterCatalog
from glmserve.engine.adapters.slots import AdapterSlots
from glmserve.engine.adapters.version import AdapterVersion

__all__ = ["AdapterCatalog", "AdapterSlots", "AdapterVersion"]
