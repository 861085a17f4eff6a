"""How many servers a load needs: the scheduler under a virtual clock, with measured step times."""
