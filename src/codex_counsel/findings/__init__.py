"""What is on record of a repository: its findings from review to review, and what of it was reviewed."""
