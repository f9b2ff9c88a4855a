"""Kind 3: a task done in a throwaway copy of the repository, and the diff that comes of it."""
