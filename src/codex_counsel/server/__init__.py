"""The face towards MCP clients. Only this package knows FastMCP."""
