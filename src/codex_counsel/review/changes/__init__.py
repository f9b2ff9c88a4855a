"""The material of a review of changes: which files, and as much of their text as fits."""
