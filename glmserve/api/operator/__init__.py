"""What operators use: health, metrics, draining, and the description of the API."""
