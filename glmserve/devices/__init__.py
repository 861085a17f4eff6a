"""Device plugins: each checks whether it can be used on this machine, and builds its Runner."""
