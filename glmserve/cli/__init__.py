"""The command line: reads and checks options, and puts the parts together."""
