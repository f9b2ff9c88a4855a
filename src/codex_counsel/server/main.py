"""Serving over stdio: quiet start, signals that end it at once, one line on stderr for whatever stops it."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import select
import signal
import sys
import threading
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from codex_counsel import __version__

if TYPE_CHECKING:
    from codex_counsel.services.counsel import Counsel

LOG = logging.getLogger("codex_counsel")
GONE = "the client closed the connection; shut down"
_QUIET = {
    "FASTMCP_ENV_FILE": os.devnull,  # FastMCP would read the .env of the user's project
    "FASTMCP_LOG_LEVEL": "WARNING",
    "FASTMCP_ENABLE_RICH_LOGGING": "false",
    "FASTMCP_CHECK_FOR_UPDATES": "off",
}


def serve() -> NoReturn:
    """Answer until the client goes. Runs that were not handed over end with this process, by their life-line."""
    gc.disable()  # until all is imported: each full collection would look at every object made so far
    code = _served()
    sys.stderr.flush()
    os._exit(code)  # threads that wait for a run, or for a stdin that is still open, hold nobody up


def _served() -> int:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _stop)
    try:
        _run(_set_up())
    except BaseException as error:  # noqa: BLE001  # the last line before the process ends
        cause = _first(error)
        if isinstance(cause, ConnectionError):
            _say(GONE)
            return 0
        _say(f"fatal: {_reason(cause)}")
        return 1
    return 0


def _set_up() -> Counsel:
    """The services for the environment as it was given; FastMCP sees none of its own variables but ours."""
    given = dict(os.environ)
    for name in given:
        if name.startswith("FASTMCP_"):
            del os.environ[name]
    os.environ.update(_QUIET)
    from codex_counsel.contract.settings import load

    settings = load()
    handler, warnings = _log_handler(settings.log_file)
    logging.basicConfig(level=settings.log_level, format="codex-counsel: %(levelname)s %(message)s", handlers=[handler])
    for warning in (*settings.warnings, *warnings):
        LOG.warning("%s", warning)
    from codex_counsel.services.counsel import Counsel

    return Counsel(given, settings=settings)


def _log_handler(file: str | None) -> tuple[logging.Handler, list[str]]:
    """The log file, or stderr where there is none or it cannot be written; what is to be said of that."""
    warnings = []
    if file:
        with contextlib.suppress(OSError):
            return logging.FileHandler(file), []
        warnings = [f"the log file {file} cannot be written: logging to stderr"]
    return logging.StreamHandler(sys.stderr), warnings


def _run(counsel: Counsel) -> None:
    import anyio

    from codex_counsel.server.app import build

    threading.Thread(target=_watch_reader, args=(os.dup(1),), daemon=True).start()
    server = build(counsel)
    gc.freeze()
    gc.enable()
    anyio.run(_serve_stdio, server)
    LOG.info("end of input; shut down")


async def _serve_stdio(server: object) -> None:
    await server.run_async("stdio", show_banner=False)  # type: ignore[attr-defined]


def _watch_reader(stdout: int) -> None:
    """End once nobody reads our answers: the thread that reads stdin would keep a failed writer from ending us."""
    poll = select.poll()
    poll.register(stdout, 0)  # errors and hang-ups are always reported
    if any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll()):
        _say(GONE)
        os._exit(0)


def _stop(number: int, _frame: FrameType | None) -> None:
    """The thread that reads stdin cannot be interrupted, so the process ends here; that closes every life-line."""
    _say(f"{signal.Signals(number).name}; shut down")
    os._exit(128 + number)


def _say(text: str) -> None:
    """One line, unless nobody reads stderr any more: that must not keep this process from ending."""
    with contextlib.suppress(OSError, ValueError):
        if select.select([], [2], [], 0)[1]:
            os.write(2, f"codex-counsel {__version__}: {text}\n".encode("utf-8", "replace"))


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _reason(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:500]
