"""A journal in Redis or Valkey, which several servers of the same model share."""
