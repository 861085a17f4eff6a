"""Start and end of a process: its tie to the parent, its exit code, its error message."""
