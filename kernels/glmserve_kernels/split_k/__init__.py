"""The second half of a matrix product whose K is split over programs."""
