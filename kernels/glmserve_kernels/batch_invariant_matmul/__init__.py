"""A batch-invariant matrix product: a row of the result does not depend on the other rows."""
