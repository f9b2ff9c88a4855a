"""The face towards people and CI."""

import sys


def run(argv: list[str]) -> int:
    from codex_counsel.server.main import serve

    return serve()
