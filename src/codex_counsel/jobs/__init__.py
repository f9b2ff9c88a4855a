"""One request is one job: one directory and one worker process."""
