"""`codex-counsel`: the command line, and the MCP server behind its verb `mcp`."""

import signal
import sys

_before = signal.getsignal(signal.SIGINT)
if _before is signal.default_int_handler:
    # A Ctrl-C while the modules are loaded ends the process without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from codex_counsel.cli import parser, run  # noqa: E402  # see above

if _before is signal.default_int_handler:
    signal.signal(signal.SIGINT, _before)


def main() -> int:
    """Run the command line of this process; returns its exit code."""
    return run(sys.argv[1:])


def compat() -> int:
    """`codex-mcp-server`: the place of `codex mcp-server`, with its arguments; returns the exit code."""
    return run(sys.argv[1:], parser.parse_compat)


if __name__ == "__main__":
    sys.exit(main())
