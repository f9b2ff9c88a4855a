"""Serving over stdio: quiet start, signals that end it at once, one line on stderr for whatever stops it."""

from __future__ import annotations

import logging
import os
import signal
import sys
from types import FrameType

from codex_counsel import __version__

LOG = logging.getLogger("codex_counsel")
_QUIET = {
    "FASTMCP_ENV_FILE": os.devnull,  # FastMCP would read the .env of the user's project
    "FASTMCP_LOG_LEVEL": "WARNING",
    "FASTMCP_ENABLE_RICH_LOGGING": "false",
    "FASTMCP_CHECK_FOR_UPDATES": "off",
}


def serve() -> int:
    """Answer until the client goes. Runs that were not handed over end with this process, by their life-line."""
    _set_up()
    try:
        _run()
    except (BrokenPipeError, ConnectionError):
        _say("the client closed the connection; shut down")
    except BaseException as error:  # noqa: BLE001  # the last line before the process ends
        _say(f"fatal: {_reason(error)}")
        return 1
    return 0


def _set_up() -> None:
    os.environ.update(_QUIET)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _stop)
    from codex_counsel.settings import load

    settings = load()
    handler = logging.FileHandler(settings.log_file) if settings.log_file else logging.StreamHandler(sys.stderr)
    logging.basicConfig(level=settings.log_level, format="codex-counsel: %(levelname)s %(message)s", handlers=[handler])
    for warning in settings.warnings:
        LOG.warning("%s", warning)


def _run() -> None:
    import anyio

    from codex_counsel.server.app import build

    anyio.run(_serve_stdio, build())
    LOG.info("end of input; shut down")


async def _serve_stdio(server: object) -> None:
    await server.run_async("stdio", show_banner=False)  # type: ignore[attr-defined]


def _stop(number: int, _frame: FrameType | None) -> None:
    """The thread that reads stdin cannot be interrupted, so the process ends here; workers see their life-lines close."""
    os.write(2, f"codex-counsel {__version__}: {signal.Signals(number).name}; shut down\n".encode())
    os._exit(128 + number)


def _say(text: str) -> None:
    print(f"codex-counsel {__version__}: {text}", file=sys.stderr)


def _reason(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return " ".join(f"{type(error).__name__}: {error}".split())[:500]
