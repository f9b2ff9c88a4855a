"""Several attempts at one task, ranked."""
