"""Goldens for the port of a device: every tensor of a model as it should be, and the comparison
of a device with it."""
