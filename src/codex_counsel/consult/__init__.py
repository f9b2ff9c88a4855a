"""Kind 1: a question, answered from the workspace."""
