"""The command line: where options are read, checked, and the parts put together."""
