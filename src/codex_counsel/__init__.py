"""A supervised bridge from Claude Code, any MCP client or CI to OpenAI's Codex."""

__version__ = "0.1.0"
