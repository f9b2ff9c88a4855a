"""The server that takes the place of `codex mcp-server`, on the real Codex."""
