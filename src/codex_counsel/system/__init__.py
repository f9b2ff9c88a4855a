"""Processes, files and text. Nothing here knows Codex or git."""
