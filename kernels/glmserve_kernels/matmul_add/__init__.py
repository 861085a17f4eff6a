"""A product added to the residual stream."""
