"""What happens before anything is spent: the workspace, the checks, the limits of access, the prompt."""
