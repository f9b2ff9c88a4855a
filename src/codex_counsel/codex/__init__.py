"""Everything that is known about the Codex CLI."""
