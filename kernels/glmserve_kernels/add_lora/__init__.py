"""What adapters add to the results of a linear module, grouped by adapter."""
