"""The contract between the planning half and the computing half: plain data, no torch."""
