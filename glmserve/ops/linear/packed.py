"""The type of packed weights."""

PackedWeight = object
"""A linear weight in the layout of one Ops: the result of its `pack_linear`, read by its `linear`
only."""
