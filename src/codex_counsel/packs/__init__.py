"""A request, or what came of it, as one file that travels to another machine."""
