"""Threads as `codex mcp-server` had them, on runs of ours."""
