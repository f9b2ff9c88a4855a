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
import time
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from codex_counsel import __version__
from codex_counsel.contract.settings import Settings, load
from codex_counsel.system.text import one_line, visible

if TYPE_CHECKING:
    from codex_counsel.contract.compat import ServerOptions
    from codex_counsel.services.counsel import Counsel

LOG = logging.getLogger("codex_counsel")
END_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
GONE = "the client closed the connection; shut down"
UNREAD_SECONDS = 10.0
"""How long a client that sends nothing more may leave our answers unread."""
FASTMCP_SETTINGS = {
    "FASTMCP_ENV_FILE": os.devnull,  # FastMCP would read the .env of the user's project
    "FASTMCP_LOG_LEVEL": "WARNING",
    "FASTMCP_ENABLE_RICH_LOGGING": "false",
    "FASTMCP_CHECK_FOR_UPDATES": "off",
}


def serve(compat: ServerOptions | None = None) -> NoReturn:
    """Answer until the client goes. Runs that were not detached end with this process, by their lifetime pipe.

    `compat`: the two tools of the removed `codex mcp-server` instead of ours.
    """
    # During imports each full collection would look at all objects made so far.
    gc.disable()
    code = _serve(compat)
    sys.stderr.flush()
    # Threads that wait for a run or for stdin must not delay the end.
    os._exit(code)


def _serve(compat: ServerOptions | None) -> int:
    """Serve to the end; returns the exit code."""
    for number in END_SIGNALS:
        signal.signal(number, _end_by_signal)
    try:
        _run(_set_up(), compat)
    except BaseException as error:  # noqa: BLE001  # the last line before the process ends
        cause = _first_error(error)
        if isinstance(cause, ConnectionError):
            _print_line(GONE)
            return 0
        reason = one_line(visible(f"{type(cause).__name__}: {cause}"), 500)
        _print_line(f"fatal: {reason}")
        return 1
    return 0


def _set_up() -> Counsel:
    """The services for the environment of this process; FastMCP sees none of its own variables but ours."""
    env = dict(os.environ)
    for name in env:
        if name.startswith("FASTMCP_"):
            del os.environ[name]
    os.environ.update(FASTMCP_SETTINGS)

    settings = load()
    _set_up_logging(settings)

    # Imported after signals and logging were set up: it takes long, and may fail.
    from codex_counsel.services.counsel import Counsel

    return Counsel(env, settings=settings)


class LogFormatter(logging.Formatter):
    """Records in which text of a model, a client or a repository can neither reach a terminal nor forge a record."""

    def format(self, record: logging.LogRecord) -> str:
        """The lines of a record, such as a traceback's, but for the first are indented."""
        lines = visible(super().format(record)).splitlines()
        return "\n    ".join(lines)


def _set_up_logging(settings: Settings) -> None:
    """Log to the file of the settings, or to stderr where there is none or it cannot be written."""
    handler: logging.Handler = logging.StreamHandler(sys.stderr)
    warnings = list(settings.warnings)
    if settings.log_file:
        try:
            handler = logging.FileHandler(settings.log_file)
        except OSError:
            warnings.append(
                f"the log file {settings.log_file} cannot be written: logging to stderr"
            )

    handler.setFormatter(LogFormatter("codex-counsel: %(levelname)s %(message)s"))
    logging.basicConfig(level=settings.log_level, handlers=[handler])
    for warning in warnings:
        LOG.warning("%s", warning)


def _run(counsel: Counsel, compat: ServerOptions | None) -> None:
    # FastMCP reads the environment, set up by now, when it is imported.
    from codex_counsel.server.app import build_server, serve_stdio

    watcher = threading.Thread(
        target=_end_without_client, args=(os.dup(0), os.dup(1)), daemon=True
    )
    watcher.start()
    if compat is None:
        server = build_server(counsel)
    else:
        from codex_counsel.server.compat import build_compat_server

        server = build_compat_server(counsel, compat)
    gc.freeze()
    gc.enable()
    serve_stdio(server)
    LOG.info("end of input; shut down")


# --- ends


def _end_without_client(stdin: int, stdout: int) -> None:
    """End this process once nobody reads our answers.

    The SDK's writer would fail, but its thread that reads stdin would keep the process
    from ending. After the end of input it is the thread that writes: a client that does
    not close its end either, and reads nothing, would keep it waiting for ever.
    """
    poll = select.poll()
    poll.register(stdout, 0)  # errors and hang-ups are always reported
    # POLLRDHUP (Linux only): the other end of a socket stopped writing.
    poll.register(stdin, getattr(select, "POLLRDHUP", 0))
    last_writable = None
    while True:
        for descriptor, _ in poll.poll(1000 if last_writable else None):
            if descriptor == stdout:
                _end_without_answers()
            poll.unregister(stdin)
            last_writable = time.monotonic()
        _, writable, _ = select.select([], [stdout], [], 0)
        if writable:
            last_writable = time.monotonic()
        elif last_writable and time.monotonic() - last_writable > UNREAD_SECONDS:
            _end_without_answers()


def _end_without_answers() -> NoReturn:
    _print_line(GONE)
    os._exit(0)


def _end_by_signal(number: int, _frame: FrameType | None) -> None:
    """End at once: the thread that reads stdin cannot be interrupted. This closes the lifetime pipe of every run."""
    _print_line(f"{signal.Signals(number).name}; shut down")
    os._exit(128 + number)


def _print_line(text: str) -> None:
    """One line on stderr. Dropped where nobody reads it any more: that must not keep this process from ending."""
    with contextlib.suppress(OSError, ValueError):
        _, writable, _ = select.select([], [2], [], 0)
        if writable:
            line = f"codex-counsel {__version__}: {text}\n"
            os.write(2, line.encode("utf-8", "replace"))


def _first_error(error: BaseException) -> BaseException:
    """The first error inside nested exception groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
