"""Limits of schemas, so that a grammar stays small."""

from __future__ import annotations

MAX_DEPTH = 100
MAX_KNOWN = 100_000
"""Schemas within one schema, as it is sent, whether they are used or not."""
MAX_SCHEMAS = 20_000
"""Schemas within one schema, after it is rewritten."""
MAX_REWRITTEN = 2000
"""Schemas that one keyword may become when it is rewritten."""
MAX_PROPERTIES = 500
"""Per object. A step's cost grows with the square of the optional ones: 2 ms at this number."""
MAX_PATTERN = 4000
MAX_COUNT = 10_000
"""For lengths and numbers of items, because each count is a state of the automaton."""
MAX_CONTAINED = 100
"""For minContains, because each item becomes a schema."""
MAX_MULTIPLE = 10_000
"""For multipleOf without its decimal point, because each remainder is a state of the automaton."""
MAX_EXACT = 2**53
"""Size up to which each integer is a floating-point number of its own."""
MIN_SIZE = 1e-9
"""Smallest size of a number other than 0."""
MAX_ALTERNATIVES = 64
"""Alternatives that one rewritten keyword may have."""

TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")
