"""Shared parts of the matrix products for a few rows, which compute what is before and behind them
in a layer as well."""
