"""The stages of bench/gpu.sh: their commands, their figures, and what they measure."""
