"""Device plugins: each says whether it can be used here, and builds its Runner."""
