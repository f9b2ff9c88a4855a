"""One function for each tool. The command line and the MCP server call only these."""
