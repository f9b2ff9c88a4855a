"""Many requests at once: what is asked, where it runs, and what came of it."""
