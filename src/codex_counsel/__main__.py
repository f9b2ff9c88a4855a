"""`codex-counsel`: the command line, and the MCP server behind its verb `mcp`."""

import sys


def main() -> int:
    from codex_counsel.cli import run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
