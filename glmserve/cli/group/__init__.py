"""How the command line finds out which machines compute a model together."""
