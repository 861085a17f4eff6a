"""Adds the partial products of a matrix product with K split over programs."""
