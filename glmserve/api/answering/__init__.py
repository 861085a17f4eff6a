"""Answers requests without knowing HTTP: record or resume, cache, start, stream or collect."""
