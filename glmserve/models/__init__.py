"""The models, their parameters, and reading those from checkpoints."""
