"""`codex-counsel`: the command line, and the MCP server behind its verb `mcp`."""

import sys

from codex_counsel.cli import parser, run


def main() -> int:
    """Run the command line of this process; returns its exit code."""
    return run(sys.argv[1:])


def compat() -> int:
    """`codex-mcp-server`: the place of `codex mcp-server`, with its arguments; returns the exit code."""
    return run(sys.argv[1:], parser.parse_compat)


if __name__ == "__main__":
    sys.exit(main())
